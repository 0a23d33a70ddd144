//! The instruction sets that the Cpu device has code for: which of them the processor has, and
//! which may be used.

use archmage::{SimdToken, X64V3Token, X64V4xToken};

use super::options::Instructions;

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
    /// Those that the processor has and that are none better than `most`, the fastest first.
    pub(super) fn within(most: Option<Instructions>) -> Vec<Self> {
        let of_processor = |set: Instructions| match set {
            Instructions::Avx512 => X64V4xToken::summon().map(Self::Avx512),
            Instructions::Avx2 => X64V3Token::summon().map(Self::Avx2),
            Instructions::Plain => Some(Self::Plain),
        };
        let first = most.and_then(|most| Instructions::ALL.iter().position(|&set| set == most)).unwrap_or(0);
        Instructions::ALL[first..].iter().filter_map(|&set| of_processor(set)).collect()
    }

    /// The first of [`Tier::within`].
    pub(super) fn best_within(most: Option<Instructions>) -> Self {
        Self::within(most).first().copied().unwrap_or(Self::Plain)
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

/// Makes functions that run a plain one, which must be `#[inline(always)]`, compiled for the
/// instruction set of a tier. The operations are the same, and so are the bits. A closure within is
/// compiled for the set only where it is inlined, which one that does much is not: all tiers share
/// it.
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
    fn no_better_set_than_allowed_is_used() {
        assert!(matches!(Tier::within(None).last(), Some(Tier::Plain)));
        assert!(matches!(Tier::best_within(Some(Instructions::Plain)), Tier::Plain));
        assert!(!Tier::within(Some(Instructions::Avx2)).iter().any(|tier| matches!(tier, Tier::Avx512(_))));
        assert_eq!("avx2".parse::<Instructions>().unwrap(), Instructions::Avx2);
        let error = "AVX-512".parse::<Instructions>().unwrap_err();
        assert_eq!(error.to_string(), "there is no instruction set `AVX-512`\n  it can be avx512, avx2, plain");
    }
}
