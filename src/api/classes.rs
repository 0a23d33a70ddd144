//! The classes that a network tells apart.

use crate::model::{GraphOutput, class_count};

/// The classes that a network tells apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    /// How many there are: the network's logits.
    pub count: usize,
    /// Their names in the order of the logits, where they are known.
    pub names: Option<Vec<String>>,
}

impl Classes {
    /// Those of a network with these outputs; none where it is no classifier.
    pub(super) fn of(outputs: &[GraphOutput], names: Option<&[String]>) -> Option<Self> {
        class_count(outputs).map(|count| Self { count, names: names.map(<[String]>::to_vec) })
    }
}
