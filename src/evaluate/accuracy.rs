//! Top-1, top-5 and agreement.

/// The class with the largest logit; of equal ones the first.
pub(crate) fn top1(logits: &[f64]) -> usize {
    let mut best = 0;
    for (class, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = class;
        }
    }
    best
}

/// Place of `label` when classes are ordered by falling logit, equal ones by index: 0 is the first.
pub(crate) fn rank(logits: &[f64], label: usize) -> usize {
    let own = logits[label];
    logits.iter().enumerate().filter(|&(class, value)| *value > own || (*value == own && class < label)).count()
}

/// Counts of right answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accuracy {
    /// Images with a known class.
    pub labelled: u64,
    /// Those whose class came first.
    pub top1: u64,
    /// Those whose class was among the first five.
    pub top5: u64,
    /// Those whose class was one more than the first: the right ones, were classes counted from 1.
    pub one_more: u64,
}

impl Accuracy {
    /// Counts one image.
    pub fn add(&mut self, logits: &[f64], label: usize) {
        let rank = rank(logits, label);
        self.labelled += 1;
        self.top1 += u64::from(rank == 0);
        self.top5 += u64::from(rank < 5);
        self.one_more += u64::from(label > 0 && top1(logits) == label - 1);
    }

    /// Top-1 as a fraction; none without labels.
    pub fn top1_fraction(&self) -> Option<f64> {
        (self.labelled > 0).then(|| self.top1 as f64 / self.labelled as f64)
    }

    /// The fraction whose class was one more than the first; none without labels.
    pub fn one_more_fraction(&self) -> Option<f64> {
        (self.labelled > 0).then(|| self.one_more as f64 / self.labelled as f64)
    }

    /// Top-5 as a fraction; none without labels.
    pub fn top5_fraction(&self) -> Option<f64> {
        (self.labelled > 0).then(|| self.top5 as f64 / self.labelled as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_first_class() {
        let logits = [1.0, 3.0, 3.0, 2.0];
        assert_eq!(top1(&logits), 1);
        assert_eq!((0..4).map(|c| rank(&logits, c)).collect::<Vec<_>>(), [3, 0, 1, 2]);
        let mut accuracy = Accuracy::default();
        accuracy.add(&logits, 1);
        accuracy.add(&logits, 0);
        accuracy.add(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 0);
        assert_eq!(accuracy, Accuracy { labelled: 3, top1: 1, top5: 2, one_more: 0 });
        // Class 1 comes first, which is the second one.
        accuracy.add(&logits, 2);
        assert_eq!((accuracy.labelled, accuracy.top1, accuracy.one_more), (4, 1, 1));
    }
}
