//! Inputs that are not RGB: gray images, and any number of channels from arrays of `NumPy`.

use std::path::Path;

use ndarray::{Array4, s};
use repquant::options::{InputForm, RgbImage};
use repquant::{Calibration, ErrorKind, Evaluation, Images, Model, Quantized, Quantizer};

use crate::common::checkpoints::{Checkpoint, description_json};
use crate::common::devices;

/// The small `RepVGG` for images of 8×8 with so many channels, which are taken as they are.
fn model(channels: usize) -> Model {
    let mut checkpoint = Checkpoint::repvgg();
    checkpoint.reshape("stage0.rbr_dense.conv.weight", &[4, channels, 3, 3]);
    checkpoint.reshape("stage0.rbr_1x1.conv.weight", &[4, channels, 1, 1]);
    let each = |value: &str| format!("[{}]", vec![value; channels].join(", "));
    let description = description_json("repvgg", "[1, 2, 1]")
        .replace(r#""resize": 10"#, r#""resize": null"#)
        .replace("[0.5, 0.5, 0.5]", &each("0.4"))
        .replace("[0.25, 0.25, 0.25]", &each("0.3"));
    Model::from_checkpoint("small", &checkpoint.bytes(), Some(&description)).unwrap()
}

/// Uneven colours.
fn pictures(count: usize) -> Vec<RgbImage> {
    let byte = |image: usize, i: usize| ((image * 7919 + i * 104_729).wrapping_mul(2_654_435_761) >> 13) as u8;
    let picture = |image| RgbImage { width: 8, height: 8, pixels: (0..192).map(|i| byte(image, i)).collect() };
    (0..count).map(picture).collect()
}

/// Their luma as the network takes it.
fn luma(pictures: &[RgbImage]) -> Array4<f32> {
    Array4::from_shape_fn((pictures.len(), 1, 8, 8), |(image, _, y, x)| {
        let [r, g, b] = std::array::from_fn(|c| u32::from(pictures[image].pixels[(y * 8 + x) * 3 + c]));
        let gray = (19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16;
        ((f64::from(gray) / 255.0 - 0.4) / 0.3) as f32
    })
}

/// What a gray network does with images is what it does with their luma, on every device, float and
/// quantized, and what is written of it is read again.
#[test]
fn a_gray_network_sees_the_luma() {
    let (model, pictures) = (model(1), pictures(11));
    assert_eq!(model.input().channels(), 1);
    let labelled = |i: usize| Some(i % 2);
    let images =
        || Images::decoded(pictures.clone().into_iter().enumerate().map(|(i, picture)| (picture, labelled(i))));
    let tensors = || Images::labelled_tensors([(luma(&pictures), (0..11).map(|i| i % 2).collect())]);
    let mut first = None;
    for device in devices() {
        let name = &device.info().name;
        let run = |images| model.run(device, images).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(run(images()), run(tensors()), "{name}");
        let calibration = Calibration::collect(device, &model, images().batch_size(4)).unwrap();
        let same = Calibration::collect(device, &model, tensors()).unwrap();
        assert_eq!(calibration.to_bytes().unwrap(), same.to_bytes().unwrap(), "{name}");
        // From the statistics of the first device, so that networks are the same.
        let calibration = first.get_or_insert(calibration);
        let quantized = Quantizer::new().quantize(&model, calibration).unwrap();
        let of_images = Evaluation::compare(device, &model, &quantized, images()).unwrap();
        let of_tensors = Evaluation::compare(device, &model, &quantized, tensors()).unwrap();
        assert_eq!(of_images.results(), of_tensors.results(), "{name}");
        assert!(of_images.layers().iter().all(|layer| layer.sqnr_db.is_none_or(|db| db > 10.0)), "{name}");
    }

    let quantized = Quantizer::new().quantize(&model, &first.unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    quantized.save(path("q.safetensors")).unwrap();
    let again = Quantized::load(path("q.safetensors")).unwrap();
    assert_eq!((again.input(), again.input().channels()), (model.input(), 1));
    model.save(path("m.safetensors")).unwrap();
    assert_eq!(Model::load(path("m.safetensors")).unwrap().input(), model.input());
    for form in [InputForm::Normalized, InputForm::Pixels] {
        model.save_onnx(path("m.onnx"), form).unwrap();
        let again = Model::load(path("m.onnx")).unwrap();
        assert_eq!((again.input(), again.notes().len()), (model.input(), model.notes().len()));
    }
}

/// A file as `numpy.save` writes it.
fn save(path: &Path, descr: &str, shape: &[usize], data: &[u8]) {
    let sides = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sides},), }}");
    header.extend(std::iter::repeat_n(' ', 63 - (10 + header.len()) % 64));
    header.push('\n');
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), data].concat()).unwrap();
}

/// Arrays in class folders are what tensors of the same values are: floats as they are, bytes as
/// pixels.
#[test]
fn arrays_serve_inputs_of_any_number_of_channels() {
    for channels in [1, 2, 3, 5, 6] {
        let model = model(channels);
        let folder = tempfile::tempdir().unwrap();
        let pixel = |i: usize, c: usize, y: usize, x: usize| (i * 91 + c * 57 + y * 23 + x * 7) as u8;
        let mut tensor = Array4::<f32>::zeros((6, channels, 8, 8));
        for ((i, c, y, x), value) in tensor.indexed_iter_mut() {
            *value = ((f64::from(pixel(i, c, y, x)) / 255.0 - 0.4) / 0.3) as f32;
        }
        for i in 0..6 {
            // In the order of the paths: cat 0, 1, 2, dog 3, 4, 5; every second one is bytes.
            let path = folder.path().join(["cat", "dog"][i / 3]).join(format!("{i}.npy"));
            let values = tensor.slice(s![i, .., .., ..]);
            if i % 2 == 0 {
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                save(&path, "<f4", &[channels, 8, 8], &bytes);
            } else {
                let bytes: Vec<u8> = values.indexed_iter().map(|((c, y, x), _)| pixel(i, c, y, x)).collect();
                save(&path, "|u1", &[channels, 8, 8], &bytes);
            }
        }
        let classes = model.classes().unwrap();
        let arrays = || Images::labelled(folder.path(), &classes).unwrap().batch_size(4);
        let tensors = || Images::labelled_tensors([(tensor.clone(), vec![0, 0, 0, 1, 1, 1])]);
        assert_eq!(arrays().count(), Some(6));
        for device in devices() {
            let name = format!("{channels} channels, {}", device.info().name);
            let run = |images| model.run(device, images).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
            assert_eq!(run(arrays()), run(tensors().batch_size(4)), "{name}");
            let calibration = Calibration::collect(device, &model, arrays()).unwrap();
            let same = Calibration::collect(device, &model, tensors()).unwrap();
            assert_eq!(calibration.to_bytes().unwrap(), same.to_bytes().unwrap(), "{name}");
            let quantized = Quantizer::new().quantize(&model, &calibration).unwrap();
            let of_arrays = Evaluation::compare(device, &model, &quantized, arrays()).unwrap();
            let of_tensors = Evaluation::compare(device, &model, &quantized, tensors()).unwrap();
            assert_eq!(of_arrays.results(), of_tensors.results(), "{name}");
        }
    }
}

#[test]
fn arrays_that_will_not_do_are_named() {
    let (device, model, folder) = (repquant::Device::cpu(), model(5), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name);
    let fails = |folder: &str, words: &[&str]| {
        let images = Images::folder(path(folder));
        let error = images.and_then(|images| Calibration::collect(&device, &model, images)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "no `{word}` in {error}");
        }
    };
    save(&path("good/a.npy"), "<f4", &[5, 8, 8], &[0; 1280]);
    save(&path("last/a.npy"), "<f4", &[8, 8, 5], &[0; 1280]);
    save(&path("short/a.npy"), "<f4", &[5, 8, 8], &[0; 1000]);
    save(&path("type/a.npy"), "<i4", &[5, 8, 8], &[0; 1280]);
    save(&path("nan/b/a.npy"), "<f4", &[5, 8, 8], &f32::NAN.to_le_bytes().repeat(320));
    fails("last", &["last/a.npy: its shape is [8, 8, 5]", "[5, 8, 8], is expected", "transpose(2, 0, 1)"]);
    fails("short", &["short/a.npy: 1280 bytes of values", "1000"]);
    fails("type", &["type/a.npy: an array of the type `<i4`"]);
    fails("nan", &["nan/b/a.npy: the value at [0, 0, 0] is NaN"]);

    // Beside images arrays are something else, and are counted.
    image::RgbImage::from_pixel(8, 8, image::Rgb([7, 8, 9])).save(path("good/b.png")).unwrap();
    let images = Images::folder(path("good")).unwrap();
    assert_eq!((images.count(), &images.found().unwrap().left_out), (Some(1), &[("npy".to_owned(), 1)].into()));
    fails("good", &["good/b.png", "5 channels, which no image has", "(.npy files)"]);
    std::fs::write(path("list.csv"), "a.npy,cat\nb.png,dog\n").unwrap();
    let mixed = Images::listed(path("good"), path("list.csv"), &model.classes().unwrap()).unwrap_err().to_string();
    assert!(mixed.contains("a.npy is an array") && mixed.contains("b.png an image"), "{mixed}");
}
