//! What a calibration run found, and how runs are put together.

use super::ActivationStats;
use crate::error::{Term, text};
use crate::model::{Graph, Preprocessing};
use crate::{Error, Result};

/// What a calibration run found.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// [`Graph::digest`](crate::model::Graph::digest) of the network it was run on.
    pub model_digest: String,
    /// How images were made into inputs.
    pub preprocessing: Preprocessing,
    /// Number of images.
    pub images: u64,
    /// One entry for each activation that is [`stored`](Graph::stored), in the graph's order.
    pub activations: Vec<ActivationStats>,
}

impl Calibration {
    /// A run that has seen no image yet: one empty entry for each activation that is
    /// [`stored`](Graph::stored).
    pub fn new(graph: &Graph) -> Self {
        let stored = graph.stored().into_iter();
        let nodes =
            graph.nodes.iter().zip(graph.shapes()).zip(stored).filter_map(|(node, stored)| stored.then_some(node));
        Self {
            model_digest: graph.digest(),
            preprocessing: graph.input.clone(),
            images: 0,
            activations: nodes.map(|(node, shape)| ActivationStats::new(&node.name, shape.channels)).collect(),
        }
    }

    /// Adds the statistics of other images, exactly: the result is that of one run over all of
    /// them.
    ///
    /// # Errors
    /// Where `other` is of another model, preprocessing or list of activations, or a count would
    /// not fit 64 bits; nothing is changed then.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.model_digest != other.model_digest {
            return Err(Error::bad(format!(
                "these statistics are of another model (digest {}, not {})",
                short(&other.model_digest),
                short(&self.model_digest)
            ))
            .hint("merge only statistics collected with the same checkpoint"));
        }
        self.check_preprocessing(&other.preprocessing, "merge only statistics collected with the same description")?;
        self.check_names(other.activations.iter().map(|a| a.name.as_str()))?;
        let images = self.images.checked_add(other.images);
        let images = images.ok_or_else(|| Error::bad("the number of images does not fit 64 bits"))?;
        let pairs = self.activations.iter().zip(&other.activations);
        pairs.into_iter().try_for_each(|(mine, theirs)| mine.check_merge(theirs))?;
        self.images = images;
        self.activations.iter_mut().zip(&other.activations).try_for_each(|(mine, theirs)| mine.merge(theirs))
    }

    /// Whether these are statistics of `graph`: its digest, preprocessing, activations and
    /// channels.
    ///
    /// # Errors
    /// What differs.
    pub fn check_graph(&self, graph: &Graph) -> Result<()> {
        let expected = Self::new(graph);
        if self.model_digest != expected.model_digest {
            return Err(Error::bad(format!(
                "these statistics are of another model (digest {}; {} has {})",
                short(&self.model_digest),
                graph.name,
                short(&expected.model_digest)
            ))
            .hint(text!["collect them again with ", Term::Calibrate, " and this checkpoint"]));
        }
        self.check_preprocessing(&expected.preprocessing, "collect them again with this description")?;
        self.check_names(expected.activations.iter().map(|a| a.name.as_str()))?;
        for (have, want) in self.activations.iter().zip(&expected.activations) {
            if have.channels() != want.channels() {
                return Err(Error::bad(format!(
                    "activation {} has {} channels in the statistics and {} in the model",
                    have.name,
                    have.channels(),
                    want.channels()
                )));
            }
        }
        Ok(())
    }

    fn check_preprocessing(&self, other: &Preprocessing, hint: &str) -> Result<()> {
        if self.preprocessing == *other {
            return Ok(());
        }
        let Preprocessing { decode, .. } = self.preprocessing;
        if self.preprocessing == (Preprocessing { decode, ..other.clone() }) {
            return Err(Error::bad(format!("the images were decoded differently ({decode}, not {})", other.decode))
                .hint(text![Term::Decode, " says how; one way must serve throughout"]));
        }
        let message = format!("the images were preprocessed differently ({:?}, not {other:?})", self.preprocessing);
        Err(Error::bad(message).hint(hint))
    }

    fn check_names<'a>(&self, other: impl ExactSizeIterator<Item = &'a str>) -> Result<()> {
        let count = other.len();
        if self.activations.len() != count {
            return Err(Error::bad(format!("{} activations here and {count} there", self.activations.len())));
        }
        match self.activations.iter().zip(other).find(|(mine, name)| mine.name != *name) {
            None => Ok(()),
            Some((mine, name)) => {
                Err(Error::bad(format!("the activations differ: {} here where {name} is there", mine.name)))
            }
        }
    }
}

/// Enough of a digest to tell two apart. It may come from a file, so it need not be hexadecimal.
fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}
