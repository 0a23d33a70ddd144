//! How a device is opened.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::adapters::{Backends, DeviceChoice};
use crate::profile::Profile;
use crate::{Error, Result};

/// Which device is opened, and how; the default is [`DeviceChoice::Auto`] on every backend.
///
/// ```
/// use repquant::Device;
/// use repquant::options::{DeviceChoice, DeviceOptions};
///
/// let options = DeviceOptions { choice: DeviceChoice::Cpu, ..DeviceOptions::default() };
/// let device = Device::open(&options)?;
/// assert_eq!(device.info().backend, "native");
/// # Ok::<(), repquant::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct DeviceOptions {
    /// Which device is meant.
    pub choice: DeviceChoice,
    /// Which graphics interfaces are looked at.
    pub backends: Backends,
    /// The best instruction set that the Cpu device may use; none: the best that the processor has.
    pub instructions: Option<Instructions>,
    /// Whether shaders keep wgpu's bounds checks, loop bounding and zeroed workgroup memory.
    /// Slower, for tests.
    pub checks: bool,
    /// Who is told how long each kernel takes. An adapter runs each dispatch in a pass of its own
    /// then, which costs a little.
    pub profile: Option<Arc<Profile>>,
}

/// A set of instructions that the Cpu device has code for, on x86-64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// AVX-512 with VNNI.
    Avx512,
    /// AVX2 with FMA.
    Avx2,
    /// What every processor has.
    Plain,
}

impl Instructions {
    /// Every set, the fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Plain];
}

impl fmt::Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Plain => "plain",
        })
    }
}

impl FromStr for Instructions {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|set| set.to_string() == text).ok_or_else(|| {
            Error::usage(format!("there is no instruction set `{text}`")).hint("it can be avx512, avx2, plain")
        })
    }
}
