//! What users of the command call the settings that the library's errors speak of, and exit codes.

use repquant::error::Term;
use repquant::{Error, ErrorKind};

/// An error as it is printed: its settings are flags and subcommands.
pub(crate) fn message(error: &Error) -> String {
    error.message(flag)
}

fn flag(term: Term) -> String {
    match term {
        Term::BatchSize => "--batch-size",
        Term::CpuDevice => "--device cpu",
        Term::Devices => "`repquant devices`",
        Term::Profile => "--profile",
        Term::Verify => "`repquant verify`",
        Term::Describe => "--describe FILE",
        Term::Arch => "--arch NAME",
        Term::InputSize => "--input-size",
        Term::Fit => "--fit",
        Term::Crop => "--crop",
        Term::Resize => "--resize",
        Term::Preprocess => "--preprocess",
        Term::Mean => "--mean",
        Term::Std => "--std",
        Term::Color => "--color",
        Term::Decode => "--decode",
        Term::SkipBad => "--skip-bad-images",
        Term::Labels => "--labels FILE",
        Term::Classes => "--classes FILE",
        Term::WeightBits => "--weight-bits",
        Term::FirstLastBits => "--first-last-bits",
        Term::MaxOverhead => "--max-overhead",
        Term::Rounding => "--rounding",
        Term::BiasCorrection => "--bias-correction",
        Term::KeepFloat => "--keep-float",
        Term::Layer => "--layer",
        Term::Calibrate => "`repquant calibrate`",
        Term::Merge => "`repquant merge`",
        Term::Quantize => "`repquant quantize`",
        Term::Output => "after -o",
        Term::Replace => "pass --force",
        other => return other.to_string(),
    }
    .to_owned()
}

/// The exit code for a kind of error.
pub(crate) fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Check => 1,
        ErrorKind::Usage => 2,
        ErrorKind::Input => 3,
        ErrorKind::Device => 4,
        ErrorKind::Output => 5,
    }
}
