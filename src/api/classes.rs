//! The classes that a network tells apart.

use crate::load::check_classes;
use crate::model::{GraphOutput, class_count};
use crate::{Error, Result};

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

    /// Whether these can be the names of the classes of a network with these outputs.
    pub(super) fn check(outputs: &[GraphOutput], names: &[String]) -> Result<()> {
        match class_count(outputs) {
            Some(count) if count == names.len() => check_classes(Some(names)),
            Some(count) => Err(Error::bad(format!("{} class names for a network with {count} outputs", names.len()))),
            None => Err(Error::bad("class names for a network that is no classifier")),
        }
    }
}
