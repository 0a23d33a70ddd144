//! The instruction sets that the Cpu device has code for: which of them the processor has, and which may be used.

use std::ffi::{OsStr, OsString};
use std::sync::LazyLock;

use archmage::{SimdToken, X64V3Token, X64V4xToken};

use crate::{Error, Result};

/// Names the best instruction set that the Cpu device may use, where the processor has it: one of [`NAMES`].
const VARIABLE: &str = "REPQUANT_CPU";

/// What [`VARIABLE`] can be, in the order of [`Tier::of_processor`].
const NAMES: [&str; 3] = ["avx512", "avx2", "plain"];

/// An instruction set, with the proof that the processor has it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tier {
    /// AVX-512 with VNNI.
    Avx512(X64V4xToken),
    /// AVX2 with FMA.
    Avx2(X64V3Token),
    /// What every processor of the architecture has.
    Plain,
}

impl Tier {
    /// Those that can and may be used, the fastest first.
    ///
    /// # Errors
    /// If the variable has another value than it can have.
    pub(super) fn all() -> Result<Vec<Self>> {
        static VALUE: LazyLock<Option<OsString>> = LazyLock::new(|| std::env::var_os(VARIABLE));
        let first = VALUE.as_deref().map_or(Ok(0), first_allowed)?;
        Ok(Self::of_processor().into_iter().skip(first).flatten().collect())
    }

    /// The fastest that the processor has, whatever the variable.
    pub(super) fn best() -> Self {
        Self::of_processor().into_iter().flatten().next().unwrap_or(Self::Plain)
    }

    fn of_processor() -> [Option<Self>; NAMES.len()] {
        [X64V4xToken::summon().map(Self::Avx512), X64V3Token::summon().map(Self::Avx2), Some(Self::Plain)]
    }

    /// Its code in the name of the device.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Avx512(_) => "native AVX-512 code",
            Self::Avx2(_) => "native AVX2 code",
            Self::Plain => "native code",
        }
    }
}

/// The place of the name among [`NAMES`].
fn first_allowed(value: &OsStr) -> Result<usize> {
    NAMES.iter().position(|name| value == *name).ok_or_else(|| {
        Error::usage(format!("{VARIABLE} is `{}`", value.display())).hint(format!("it can be {}", NAMES.join(", ")))
    })
}

/// Makes functions that run a plain one, which must be `#[inline(always)]`, compiled for the instruction set of a tier. The
/// operations are the same, and so are the bits. A closure within is compiled for the set only where it is inlined, which one that
/// does much is not: all tiers share it.
macro_rules! compiled_for_tiers {
    ($($(#[$about:meta])* $visible:vis fn $name:ident($($argument:ident: $kind:ty),+ $(,)?) $(-> $result:ty)? = $plain:path;)+) => {$(
        $(#[$about])*
        $visible fn $name(tier: $crate::device::Tier, $($argument: $kind),+) $(-> $result)? {
            #[archmage::arcane]
            fn avx512(_: archmage::X64V4xToken, $($argument: $kind),+) $(-> $result)? {
                $plain($($argument),+)
            }
            #[archmage::arcane]
            fn avx2(_: archmage::X64V3Token, $($argument: $kind),+) $(-> $result)? {
                $plain($($argument),+)
            }
            match tier {
                #[cfg(target_arch = "x86_64")]
                $crate::device::Tier::Avx512(token) => avx512(token, $($argument),+),
                #[cfg(target_arch = "x86_64")]
                $crate::device::Tier::Avx2(token) => avx2(token, $($argument),+),
                _ => $plain($($argument),+),
            }
        }
    )+};
}

pub(crate) use compiled_for_tiers;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_a_name_or_an_error() {
        assert_eq!(NAMES.map(|name| first_allowed(name.as_ref()).unwrap()), [0, 1, 2]);
        let error = first_allowed("AVX-512".as_ref()).unwrap_err();
        assert_eq!(error.to_string(), "REPQUANT_CPU is `AVX-512`\n  it can be avx512, avx2, plain");
    }
}
