//! Which devices there are, and whether one computes what it should.

use crate::device::Device;
use crate::kernels;
use crate::progress::{Event, Progress, Stage};
use crate::report::{KernelRow, Verified};

impl Device {
    /// Compares every kernel with its plain twin: integers to the bit, floats within a bound
    /// derived from the length of the sums. It takes seconds; a device that fails here, or a
    /// driver, is broken.
    ///
    /// ```no_run
    /// use repquant::{Device, progress::Silent};
    ///
    /// assert!(Device::cpu().verify(&Silent).passed());
    /// ```
    pub fn verify(&self, progress: &dyn Progress) -> Verified {
        progress.event(Event::Begin { stage: Stage::Verify, total: Some(kernels::ALL.len() as u64) });
        let mut verified = Verified { device: Some(self.info().clone()), failure: None, kernels: Vec::new() };
        for kernel in kernels::ALL {
            if kernel.runs_on(self) {
                match (kernel.verify)(self) {
                    Ok(checks) => verified.kernels.push(KernelRow {
                        name: kernel.shader.name(),
                        cases: checks.len(),
                        failed: checks.iter().filter(|c| !c.passed).count(),
                        worst: checks.iter().map(|c| c.error).fold(0.0, f64::max),
                        detail: checks
                            .into_iter()
                            .find(|c| !c.passed)
                            .map(|c| format!("{}: {}", c.case, c.detail.unwrap_or_default())),
                    }),
                    Err(error) => {
                        verified.failure = Some(error.at(format!("kernel {}", kernel.shader.name())).to_string());
                        break;
                    }
                }
            }
            progress.event(Event::Advance { stage: Stage::Verify, items: 1 });
        }
        progress.event(Event::End { stage: Stage::Verify });
        verified
    }
}
