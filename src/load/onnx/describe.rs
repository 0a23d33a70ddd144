//! How an image becomes the input, and what the classes are called: what an ONNX file does not say,
//! unless this program wrote it.

use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Term, text};
use crate::load::arch;
use crate::load::description::check_classes;
use crate::load::input_file::InputFile;
use crate::load::{InputDescription, InputOverrides, LoadOptions};
use crate::model::Preprocessing;
use crate::onnx_proto::ModelProto;
use crate::tensor_file::read;
use crate::{Error, Result};

/// What a file or a caller says of the images.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Described {
    /// How an image becomes the input.
    pub input: Option<InputFile>,
    /// Class names in the order of the logits.
    pub classes: Option<Vec<String>>,
    /// The name that this program gave the network; none where another program wrote the file.
    pub own_name: Option<String>,
    /// What is asked for in place of that.
    pub overrides: InputOverrides,
}

/// A description file for an ONNX network: of that for a checkpoint, what the file does not say
/// itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    input: Option<InputFile>,
    #[serde(default)]
    classes: Option<Vec<String>>,
    // What a checkpoint needs beyond that is in the ONNX file.
    #[serde(default, rename = "family")]
    _family: Option<IgnoredAny>,
    #[serde(default, rename = "strides")]
    _strides: Option<IgnoredAny>,
    #[serde(default, rename = "groups")]
    _groups: Option<IgnoredAny>,
    #[serde(default, rename = "bn_eps")]
    _bn_eps: Option<IgnoredAny>,
}

impl Described {
    /// The first of: the options; the file's own metadata; `MODEL.json` beside `MODEL.onnx`.
    ///
    /// # Errors
    /// A description that cannot be read or makes no sense.
    pub(super) fn find(path: &Path, model: &ModelProto, options: &LoadOptions) -> Result<Self> {
        let own = Self::own(model).map_err(|e| e.at(path.display()))?;
        let (own_name, own_classes) = (own.own_name.clone(), own.classes.clone());
        let beside = path.with_extension("json");
        let found = match (&options.describe, &options.arch) {
            (Some(_), Some(_)) => {
                return Err(Error::usage("a description file and an architecture are both given").hint(text![
                    "pass ",
                    Term::Describe,
                    " or ",
                    Term::Arch,
                    ", not both"
                ]));
            }
            (Some(file), None) => Self::file(file)?,
            (None, Some(name)) => {
                let description = arch::find(name, Error::usage)?.description();
                Self { input: Some(description.input.into()), classes: description.classes, ..Self::default() }
            }
            (None, None) if own.input.is_some() => own,
            (None, None) if beside.is_file() => Self::file(&beside)?,
            (None, None) => Self::default(),
        };
        Ok(Self { own_name, classes: found.classes.or(own_classes), overrides: options.input.clone(), ..found })
    }

    fn file(path: &Path) -> Result<Self> {
        let at = |e: Error| e.at(path.display());
        let bytes = read(path)?;
        let file: File = serde_json::from_slice(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes))
            .map_err(|e| at(Error::bad("the description cannot be read").because(e)))?;
        if let Some(input) = &file.input {
            input.check_units().map_err(at)?;
            if input.is_whole() {
                input.over(&InputDescription::imagenet()).check().map_err(at)?;
            }
        }
        check_classes(file.classes.as_deref()).map_err(at)?;
        Ok(Self { input: file.input, classes: file.classes, ..Self::default() })
    }

    /// What a file of this program says of itself.
    ///
    /// # Errors
    /// A quantized network, or metadata that cannot be read.
    pub(super) fn own(model: &ModelProto) -> Result<Self> {
        let entry = |key: &str| {
            let found = model.metadata_props.iter().find(|entry| entry.key.as_deref() == Some(key));
            found.and_then(|entry| entry.value.as_deref())
        };
        let Some(form) = entry("repquant.form") else { return Ok(Self::default()) };
        if form != "float" {
            return Err(Error::bad(format!(
                "is a quantized network ({}); a float one is needed here",
                form.escape_debug()
            ))
            .hint("use the float network, or write the quantized one as .safetensors too: that is read again"));
        }
        let unreadable = |key: &str, e: serde_json::Error| {
            Error::bad(format!("the metadata entry `{key}` cannot be read")).because(e)
        };
        let key = "repquant.preprocessing";
        let input: Option<Preprocessing> =
            entry(key).map(serde_json::from_str).transpose().map_err(|e| unreadable(key, e))?;
        let input = input.as_ref().map(InputDescription::from);
        if let Some(input) = &input {
            input.check()?;
        }
        let key = "repquant.classes";
        let classes: Option<Vec<String>> =
            entry(key).map(serde_json::from_str).transpose().map_err(|e| unreadable(key, e))?;
        check_classes(classes.as_deref())?;
        let name = model.graph.as_ref().and_then(|graph| graph.name.clone());
        Ok(Self {
            input: input.map(InputFile::from),
            classes,
            own_name: Some(name.unwrap_or_default()),
            ..Self::default()
        })
    }

    /// Rows and columns of the input, where something says them.
    pub(super) fn size(&self) -> Option<[usize; 2]> {
        self.overrides.size.or(self.input.as_ref().and_then(|input| input.size))
    }

    /// Which of the mean, the deviation, and how images are brought to the size, nothing says.
    pub(super) fn open(&self) -> [bool; 3] {
        let (asked, input) = (&self.overrides, self.input.as_ref());
        let said = input.is_some_and(InputFile::is_whole) || asked.preset.is_some();
        let fit = asked.fit.is_some() || asked.resize.is_some();
        [
            asked.mean.is_some() || input.is_some_and(|input| input.mean.is_some()),
            asked.std.is_some() || input.is_some_and(|input| input.std.is_some()),
            fit || input.is_some_and(|input| input.fit.is_some() || input.resize.is_some()),
        ]
        .map(|this| !said && !this)
    }

    /// How an image becomes an input of `channels` and `size`: as described, or as usual.
    ///
    /// # Errors
    /// Where the description, or what is asked for in its place, says another size or another
    /// number of channels, or makes no sense.
    pub(super) fn preprocessing(&self, channels: usize, size: [usize; 2]) -> Result<Preprocessing> {
        let differs = |said: [usize; 2]| format!("an input of {said:?}, the network has {size:?}");
        if let Some(said) = self.overrides.size.filter(|said| *said != size) {
            return Err(Error::usage(text![Term::InputSize, format!(" asks for {}", differs(said))]));
        }
        let usual = InputDescription::usual(channels, size);
        let base = self.input.as_ref().map_or_else(|| usual.clone(), |input| input.over(&usual));
        base.check()?;
        if base.channels() != channels {
            let what = format!("mean and deviation of {} channels, the network has {channels}", base.channels());
            return Err(Error::bad(format!("the description says {what}")));
        }
        let input = self.overrides.over(&base)?;
        if input.size != size {
            return Err(Error::bad(format!("the description says {}", differs(input.size))));
        }
        Ok(input.preprocessing())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn what_is_asked_for_goes_before_what_is_said() {
        let asked = |size, resize| InputOverrides { size, resize, mean: Some(vec![0.0; 3]), ..Default::default() };
        let described = Described { overrides: asked(Some([32, 48]), None), ..Default::default() };
        assert_eq!(described.size(), Some([32, 48]));
        let input = described.preprocessing(3, [32, 48]).unwrap();
        assert_eq!((input.resize, input.mean, input.std[0]), (Some(54), vec![0.0; 3], 0.229));
        let error = described.preprocessing(3, [32, 32]).unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("`size` asks for"), "{error}");

        let said = Some(InputDescription { std: vec![1.0; 3], ..InputDescription::imagenet() });
        let described =
            Described { input: said.map(InputFile::from), overrides: asked(None, Some(None)), ..Default::default() };
        assert_eq!(described.size(), Some([224, 224]));
        let input = described.preprocessing(3, [224, 224]).unwrap();
        assert_eq!((input.resize, input.mean, input.std), (None, vec![0.0; 3], vec![1.0; 3]));
        assert_eq!(described.preprocessing(3, [32, 32]).unwrap_err().kind(), ErrorKind::Input);
    }
}
