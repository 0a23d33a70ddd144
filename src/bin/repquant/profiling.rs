//! `--profile`: the file it goes to, and the spans of the library that go into it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use repquant::files::OutputFile;
use repquant::profile::{Profile, Summary};
use repquant::{Device, Error, Result};

/// A profile that is being taken.
pub(super) struct Profiling {
    /// What is known so far.
    pub(super) profile: Arc<Profile>,
    output: OutputFile,
}

/// The other files of a command.
pub(super) struct Files {
    /// Those that it reads.
    pub(super) inputs: Vec<PathBuf>,
    /// The one that it writes beside the profile.
    pub(super) output: Option<PathBuf>,
    /// Whether it may replace files; none where the command has no `--force`.
    pub(super) force: Option<bool>,
}

impl Profiling {
    /// Checks that the trace can be written to `path`, and begins.
    ///
    /// # Errors
    /// Those of [`OutputFile::check`], or a `path` that is the command's output.
    pub(super) fn begin(path: &Path, files: &Files) -> Result<Self> {
        let absolute = |path: &Path| std::path::absolute(path).ok();
        if files.output.as_deref().is_some_and(|output| absolute(output) == absolute(path)) {
            return Err(Error::usage(format!("{}: the profile and the output are one file", path.display()))
                .hint("choose another name after --profile"));
        }
        let inputs: Vec<&Path> = files.inputs.iter().map(PathBuf::as_path).collect();
        let output = OutputFile::check(path, files.force.unwrap_or(false), &inputs).map_err(|e| {
            e.hint(match files.force {
                Some(false) => "choose another name after --profile, or pass --force to replace a file",
                _ => "choose another name after --profile",
            })
        })?;
        let profile = Arc::new(Profile::new());
        let spans = Spans { profile: Arc::clone(&profile), open: Mutex::default(), next: AtomicU64::new(1) };
        // Where a program around this one listens already, it gets the spans, and the trace has the
        // kernels alone.
        let _ = tracing::subscriber::set_global_default(spans);
        Ok(Self { profile, output })
    }

    /// Where the trace goes.
    pub(super) fn path(&self) -> &Path {
        self.output.path()
    }

    /// Waits for the device, writes the trace, and returns the totals.
    ///
    /// # Errors
    /// If the device failed or the file cannot be written.
    pub(super) fn finish(&self, device: &Device) -> Result<Summary> {
        device.wait()?;
        self.output.write(&self.profile.trace(&device.info().name)?)?;
        Ok(self.profile.summary())
    }
}

/// Puts the library's spans into a profile.
struct Spans {
    profile: Arc<Profile>,
    open: Mutex<HashMap<u64, Open>>,
    next: AtomicU64,
}

/// A span that is not over.
struct Open {
    name: String,
    begin: f64,
}

impl Spans {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut name = Name(None);
        attributes.record(&mut name);
        let name = name.0.unwrap_or_else(|| attributes.metadata().name().to_owned());
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.open().insert(id, Open { name, begin: self.profile.now() });
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, id: &Id) {
        if let Some(span) = self.open().get_mut(&id.into_u64()) {
            span.begin = self.profile.now();
        }
    }

    fn exit(&self, id: &Id) {
        if let Some(Open { name, begin }) = self.open().get(&id.into_u64()) {
            let thread = std::thread::current();
            self.profile.span(name, thread.name().unwrap_or("thread"), *begin, self.profile.now() - begin);
        }
    }

    fn try_close(&self, id: Id) -> bool {
        self.open().remove(&id.into_u64()).is_some()
    }
}

/// Finds the field `name`, by which a span is called something else than its kind.
struct Name(Option<String>);

impl Visit for Name {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "name" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
