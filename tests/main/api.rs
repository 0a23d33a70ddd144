//! The front door: what whoever uses the library meets, and what it promises of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

use ndarray::{Array3, Array4, ArrayD, Axis, IxDyn, concatenate};
use repquant::options::{Contender, DeviceChoice, DeviceOptions, Format, InputForm, RgbImage};
use repquant::progress::{Event, Silent, Stage};
use repquant::{
    Calibration, Device, Error, ErrorKind, Evaluation, Images, Model, Progress, Quantized, Quantizer, Report, Result,
};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

use crate::common::checkpoints::{Checkpoint, description_json};
use crate::common::{devices, open_devices};

/// A classifier of two classes for images of 8×8.
fn model() -> Model {
    let description = description_json("repvgg", "[1, 2, 1]");
    Model::from_checkpoint("small", &Checkpoint::repvgg().bytes(), Some(&description)).unwrap()
}

/// Uneven pictures of the network's size.
fn pictures(count: usize) -> Vec<RgbImage> {
    let byte = |image: usize, i: usize| ((image * 7919 + i * 104_729).wrapping_mul(2_654_435_761) >> 13) as u8;
    let picture = |image| RgbImage { width: 8, height: 8, pixels: (0..192).map(|i| byte(image, i)).collect() };
    (0..count).map(picture).collect()
}

/// The pictures as images in memory, the first of class 0, the second of class 1, and so on.
fn decoded(count: usize) -> Images<'static> {
    Images::decoded(pictures(count).into_iter().enumerate().map(|(i, picture)| (picture, Some(i % 2))))
}

/// The values of the network's input that each picture becomes: images × 3 × 8 × 8.
fn values(model: &Model, pictures: &[RgbImage]) -> Array4<f32> {
    let levels = model.input().levels();
    Array4::from_shape_fn((pictures.len(), 3, 8, 8), |(image, c, y, x)| {
        levels[c][usize::from(pictures[image].pixels[(y * 8 + x) * 3 + c])] as f32
    })
}

/// A model whose images are taken as they are.
fn plain_model() -> Model {
    let description = description_json("repvgg", "[1, 2, 1]").replace(r#""resize": 10"#, r#""resize": null"#);
    Model::from_checkpoint("small", &Checkpoint::repvgg().bytes(), Some(&description)).unwrap()
}

fn bytes(calibration: &Calibration) -> Vec<u8> {
    calibration.to_bytes().unwrap()
}

#[test]
fn what_is_shared_can_be_sent_to_other_threads() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Device>();
    send::<Model>();
    send::<Calibration>();
    send::<Quantizer>();
    send::<Quantized>();
    send::<Evaluation>();
    send::<Report>();
    send::<Error>();
    sync::<Model>();
    sync::<Calibration>();
    sync::<Quantizer>();
    sync::<Quantized>();
    sync::<Report>();
    sync::<Error>();
}

/// Devices work at once, each in a thread of its own, and give what each gives alone.
#[test]
fn devices_work_side_by_side() {
    let model = plain_model();
    #[allow(clippy::type_complexity, reason = "the three results, side by side")]
    let work = |device: &Device| -> Result<(Vec<u8>, Vec<u8>, Vec<Vec<ArrayD<f64>>>)> {
        let calibration = Calibration::collect(device, &model, decoded(40).batch_size(7))?;
        let quantized = Quantizer::new().quantize(&model, &calibration)?;
        let outputs = quantized.run(device, decoded(9).batch_size(4))?.collect::<Result<_>>()?;
        Ok((calibration.to_bytes()?, quantized.to_safetensors()?, outputs))
    };
    let devices: Vec<Device> = open_devices().into_iter().chain([Device::cpu(), Device::cpu()]).collect();
    let alone: Vec<_> = devices.iter().map(|device| work(device).unwrap()).collect();
    // The last two are the first once more; devices with other instructions add floats up in
    // another order.
    assert_eq!(
        devices[0].info(),
        &repquant::report::DeviceInfo { reason: "listed".into(), ..Device::cpu().info().clone() }
    );
    assert!(alone[alone.len() - 2..].iter().all(|found| *found == alone[0]));
    let work = &work;
    let at_once: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = devices
            .into_iter()
            .map(|device| scope.spawn(move || (0..3).map(|_| work(&device).unwrap()).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (rounds, alone) in at_once.iter().zip(&alone) {
        assert!(rounds.iter().all(|found| found == alone));
    }
}

/// Resident memory of this process in KiB, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// What was dropped is freed: a device that opened, worked and was dropped many times takes no more
/// memory than once.
#[test]
fn dropping_frees_everything() {
    // In a process of its own: other tests would be measured with it.
    const ALONE: &str = "REPQUANT_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let mut test = std::process::Command::new(std::env::current_exe().unwrap());
        let output = test.args(["--exact", "api::dropping_frees_everything", "--nocapture"]).env(ALONE, "1").output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let big = description_json("repvgg", "[1, 2, 1]")
        .replace("[8, 8]", "[256, 256]")
        .replace("\"resize\": 10", "\"resize\": null");
    let model = Model::from_checkpoint("big", &Checkpoint::repvgg().bytes(), Some(&big)).unwrap();
    let picture =
        |i: usize| RgbImage { width: 256, height: 256, pixels: (0..256 * 256 * 3).map(|p| (p * i) as u8).collect() };
    let round = |device: Device| {
        // About 60 MB of activations.
        let images = || Images::decoded((1..=16).map(|i| (picture(i), Some(0)))).batch_size(16);
        let calibration = Calibration::collect(&device, &model, images()).unwrap();
        let quantized = Quantizer::new().quantize(&model, &calibration).unwrap();
        Evaluation::compare(&device, &model, &quantized, images()).unwrap();
    };
    let kinds = devices().len();
    for kind in 0..kinds {
        let open = || Device::all(&DeviceOptions::default()).into_iter().nth(kind).unwrap().unwrap();
        let name = open().info().name.clone();
        (0..2).for_each(|_| round(open()));
        let Some(before) = resident() else { return };
        (0..6).for_each(|_| round(open()));
        let after = resident().unwrap();
        assert!(after < before + 150_000, "{name}: {before} KiB became {after} KiB in six rounds");
    }
}

/// f32 tensors that hold what pictures become give the same statistics and outputs, to the bit, on
/// every device.
#[test]
fn tensors_are_as_good_as_images() {
    let model = plain_model();
    let pictures = pictures(23);
    let all = values(&model, &pictures);
    // Cut unevenly: tensors need not be batches.
    let parts = || {
        let cuts = [0, 1, 9, 9, 20, 23];
        let parts: Vec<Array4<f32>> =
            cuts.windows(2).map(|w| all.slice_axis(Axis(0), (w[0]..w[1]).into()).to_owned()).collect();
        parts
    };
    for device in devices() {
        let name = &device.info().name;
        let from_images = Calibration::collect(device, &model, decoded(23).batch_size(5)).unwrap();
        for batch_size in [1, 4, 64] {
            let tensors = Images::tensors(parts()).batch_size(batch_size);
            let from_tensors = Calibration::collect(device, &model, tensors).unwrap();
            assert_eq!(bytes(&from_tensors), bytes(&from_images), "{name}, batches of {batch_size}");
        }
        let quantized = Quantizer::new().quantize(&model, &from_images).unwrap();
        let all_of = |batches: Vec<Vec<ArrayD<f64>>>| {
            let first: Vec<_> = batches.iter().map(|outputs| outputs[0].view()).collect();
            concatenate(Axis(0), &first).unwrap()
        };
        let collect = |run: Result<Vec<Vec<ArrayD<f64>>>>| all_of(run.unwrap());
        let float = |images| collect(model.run(device, images).unwrap().collect());
        let int8 = |images| collect(quantized.run(device, images).unwrap().collect());
        assert_eq!(float(Images::tensors(parts()).batch_size(6)), float(decoded(23)), "{name}");
        assert_eq!(int8(Images::tensors(parts()).batch_size(6)), int8(decoded(23)), "{name}");
        assert_eq!(int8(decoded(23)).shape(), [23, 2]);
        // Both networks side by side, layer by layer.
        let labelled = || {
            let mut first = 0;
            Images::labelled_tensors(parts().into_iter().map(move |part| {
                let classes = (first..first + part.len_of(Axis(0))).map(|i| i % 2).collect();
                first += part.len_of(Axis(0));
                (part, classes)
            }))
        };
        let of_tensors = Evaluation::compare(device, &model, &quantized, labelled()).unwrap();
        let of_images = Evaluation::compare(device, &model, &quantized, decoded(23)).unwrap();
        assert_eq!(of_tensors.results(), of_images.results(), "{name}");
        assert_eq!(of_tensors.layers(), of_images.layers(), "{name}");
        assert!(of_tensors.layers().iter().any(|layer| layer.sqnr_db.is_some()));
        let alone = [Contender { name: "alone", network: &quantized, layers: false }];
        let of_one = |images| Evaluation::of(device, None, &alone, images, &Silent).unwrap();
        assert_eq!(of_one(labelled()).results(), of_one(decoded(23)).results(), "{name}");
        assert_eq!(Calibration::collect(device, &model, Images::tensors(parts()).limit(7)).unwrap().images(), 7);
    }
}

#[test]
fn tensors_that_will_not_do_are_named() {
    let (device, model) = (Device::cpu(), plain_model());
    let good = || values(&model, &pictures(2));
    let fails = |images: Images<'_>, words: &[&str]| {
        let error = Calibration::collect(&device, &model, images).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "no `{word}` in {error}");
        }
    };
    let mut broken = good();
    broken[[1, 2, 0, 5]] = f32::NAN;
    fails(Images::tensors([good(), broken.clone()]), &["tensor 1", "[1, 2, 0, 5]", "NaN"]);
    broken[[1, 2, 0, 5]] = f32::INFINITY;
    fails(Images::tensors([broken]), &["tensor 0", "inf"]);
    fails(Images::tensors([good(), Array4::zeros([1, 3, 8, 7])]), &["tensor 1", "[1, 3, 8, 7]", "images × 3 × 8 × 8"]);
    fails(Images::tensors([Array3::<f32>::zeros([3, 8, 8])]), &["tensor 0", "[3, 8, 8]", "images × 3 × 8 × 8"]);
    fails(Images::tensors([Array4::<f32>::zeros([1, 1, 8, 8])]), &["tensor 0", "[1, 1, 8, 8]"]);
    fails(Images::labelled_tensors([(good(), vec![0])]), &["tensor 0", "2 images and 1 classes"]);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inputs.safetensors");
    let write = |tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]| {
        let views = tensors.iter().map(|(n, d, s, b)| (*n, TensorView::new(*d, s.clone(), b).unwrap()));
        std::fs::write(&path, serialize(views, None).unwrap()).unwrap();
    };
    let data = |values: &Array4<f32>| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    write(&[("b", Dtype::F32, vec![2, 3, 8, 8], data(&good())), ("a", Dtype::F16, vec![1, 3, 8, 8], vec![0; 384])]);
    let error = Images::tensor_file(&path).unwrap_err().to_string();
    assert!(error.contains("inputs.safetensors: tensor a") && error.contains("F16"), "{error}");
    write(&[("b", Dtype::F32, vec![2, 3, 8, 8], data(&good())), ("a", Dtype::F32, vec![6], vec![0; 24])]);
    fails(Images::tensor_file(&path).unwrap(), &["inputs.safetensors: tensor a", "[6]"]);
    write(&[]);
    assert!(Images::tensor_file(&path).unwrap_err().to_string().contains("holds no tensors"));
    std::fs::write(&path, [1, 2, 3]).unwrap();
    assert_eq!(Images::tensor_file(&path).unwrap_err().kind(), ErrorKind::Input);

    write(&[("b", Dtype::F32, vec![2, 3, 8, 8], data(&good()))]);
    let images = Images::tensor_file(&path).unwrap();
    assert_eq!(images.count(), Some(2));
    let from_file = Calibration::collect(&device, &model, images).unwrap();
    assert_eq!(bytes(&from_file), bytes(&Calibration::collect(&device, &model, decoded(2)).unwrap()));
}

/// Images in memory are what files of the same pixels are.
#[test]
fn images_in_memory_are_as_good_as_files() {
    let (device, model) = (Device::cpu(), model());
    let folder = tempfile::tempdir().unwrap();
    let picture = |i: u32| {
        image::RgbImage::from_fn(9 + i, 12, move |x, y| image::Rgb([(x * 29 + i) as u8, (y * 21) as u8, (x * y) as u8]))
    };
    for i in 0..6 {
        let class = folder.path().join(["cat", "dog"][i as usize % 2]);
        std::fs::create_dir_all(&class).unwrap();
        picture(i).save(class.join(format!("{i}.png"))).unwrap();
    }
    let decoded = || {
        let image = |i: u32| {
            let picture = picture(i);
            let (width, height) = (picture.width() as usize, picture.height() as usize);
            (RgbImage { width, height, pixels: picture.into_raw() }, Some(i as usize % 2))
        };
        // In the order of the files: cat 0, 2, 4, dog 1, 3, 5.
        Images::decoded([0, 2, 4, 1, 3, 5].into_iter().map(image)).batch_size(4)
    };
    let classes = model.classes().unwrap();
    let files = || Images::labelled(folder.path(), &classes).unwrap();
    assert_eq!((files().count(), decoded().count()), (Some(6), Some(6)));
    let calibration = Calibration::collect(&device, &model, files()).unwrap();
    assert_eq!(bytes(&calibration), bytes(&Calibration::collect(&device, &model, decoded()).unwrap()));
    let quantized = Quantizer::new().quantize(&model, &calibration).unwrap();
    let of = |images| Evaluation::compare(&device, &model, &quantized, images).unwrap();
    assert_eq!(of(files()).results(), of(decoded()).results());
    assert_eq!(of(files().limit(3)).run().images, 3);

    let short = RgbImage { width: 4, height: 4, pixels: vec![0; 47] };
    let error = Calibration::collect(&device, &model, Images::decoded([(short, None)])).unwrap_err();
    assert!(error.to_string().contains("image 0: 4×4 pixels of 3 bytes, not 47 bytes"), "{error}");
}

/// Files that are left out are listed with what is wrong with them.
#[test]
fn a_run_tells_what_it_left_out() {
    let (device, model) = (Device::cpu(), model());
    let folder = tempfile::tempdir().unwrap();
    image::RgbImage::from_pixel(10, 10, image::Rgb([7, 8, 9])).save(folder.path().join("a.png")).unwrap();
    std::fs::write(folder.path().join("b.png"), b"no picture").unwrap();
    let images = || Images::folder(folder.path()).unwrap();
    let error = Calibration::collect(&device, &model, images()).unwrap_err();
    assert!(error.to_string().contains("b.png") && error.to_string().contains("`skip_bad`"), "{error}");
    let calibration = Calibration::collect(&device, &model, images().skip_bad(true)).unwrap();
    let run = calibration.run().unwrap();
    assert_eq!((run.images, run.skipped.len()), (1, 1));
    assert!(run.skipped[0].path.ends_with("b.png") && run.skipped[0].reason.contains("not a JPEG"));
    assert!(run.pace.decoding_waited.is_some());
}

/// A whole journey: statistics of two runs, a quantized network, files that load back to the same.
#[test]
fn what_is_saved_loads_back() {
    let (device, model) = (Device::cpu(), plain_model());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let pictures = pictures(10);
    let part = |range: std::ops::Range<usize>| {
        Calibration::collect(&device, &model, Images::tensors([values(&model, &pictures[range])])).unwrap()
    };
    let mut sum = part(0..4);
    part(4..10).save(path("second.safetensors")).unwrap();
    sum.merge(&Calibration::load(path("second.safetensors")).unwrap()).unwrap();
    assert_eq!(bytes(&sum), bytes(&part(0..10)));
    assert!(sum.run().is_none() && sum.images() == 10);
    sum.check(&model).unwrap();

    let quantized = Quantizer::new().weight_bits(6).first_last_bits(8).quantize(&model, &sum).unwrap();
    assert_eq!(quantized.bits(), [6, 8]);
    quantized.save(path("q.safetensors")).unwrap();
    let again = Quantized::load(path("q.safetensors")).unwrap();
    assert_eq!(again.to_safetensors().unwrap(), quantized.to_safetensors().unwrap());
    assert_eq!(again.layers(), quantized.layers());
    assert_eq!(Quantized::from_bytes(&again.to_safetensors().unwrap()).unwrap().name(), "small");
    quantized.save_onnx(path("q.onnx"), Format::Integer, InputForm::Pixels).unwrap();
    assert!(path("q.onnx").is_file());

    // A float network as safetensors and as ONNX is the same network.
    model.save(path("float.safetensors")).unwrap();
    model.save_onnx(path("float.onnx"), InputForm::Normalized).unwrap();
    let layers = |model: &Model| model.layers().into_iter().map(|layer| (layer.output, layer.macs)).collect::<Vec<_>>();
    for name in ["float.safetensors", "float.onnx"] {
        let loaded = Model::load(path(name)).unwrap();
        assert_eq!((loaded.parameters(), loaded.macs()), (model.parameters(), model.macs()), "{name}");
        assert_eq!(layers(&loaded), layers(&model), "{name}");
        let run = |model: &Model| model.run(&device, decoded(5)).unwrap().collect::<Result<Vec<_>>>().unwrap();
        assert_eq!(run(&loaded), run(&model), "{name}");
    }
    let own = std::fs::read(path("float.safetensors")).unwrap();
    assert_eq!(Model::from_checkpoint("own", &own, None).unwrap().parameters(), model.parameters());
    let error = Model::from_checkpoint("bare", &Checkpoint::repvgg().bytes(), None).unwrap_err();
    assert!(error.to_string().contains("bare: nothing describes this checkpoint"), "{error}");
}

/// Reports of networks that ran, and of those that did not.
#[test]
fn a_report_is_the_same_whoever_asks() {
    let (device, model) = (Device::cpu(), plain_model());
    let calibration = Calibration::collect(&device, &model, decoded(8)).unwrap();
    let quantized = Quantizer::new().quantize(&model, &calibration).unwrap();
    let contenders = [Contender { name: "quantized", network: &quantized, layers: true }];
    let before = Report::of(&device, Some(&model), &contenders).unwrap();
    let after = Evaluation::compare(&device, &model, &quantized, decoded(8)).unwrap().report();
    let names = |report: &Report| report.results.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&before), ["float32", "quantized"]);
    assert_eq!(names(&before), names(&after));
    assert!(before.results[1].agreement.is_none() && after.results[1].agreement.is_some());
    assert_eq!(before.layers.len(), after.layers.len());
    assert_eq!(before.results[1].weight_bytes, quantized.weight_bytes());
    assert!(after.to_string().starts_with("            bits    top-1"), "{after}");
    let mut whole = after.clone();
    whole.add_calibration(&calibration);
    assert_eq!((whole.images.calibration, whole.images.evaluation), (8, 8));
    assert!(whole.throughput.calibrate.is_some() && whole.throughput.evaluate.is_some());
    assert_eq!(Report::of(&device, None, &[]).unwrap_err().kind(), ErrorKind::Usage);
    let none = Evaluation::of(&device, None, &[], decoded(1), &Silent).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Usage);
}

#[test]
fn progress_tells_each_stage_and_every_image() {
    struct Seen(std::sync::Mutex<Vec<Event>>);
    impl Progress for Seen {
        fn event(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }
    let (device, model) = (Device::cpu(), plain_model());
    let seen = Seen(std::sync::Mutex::default());
    let calibration = Calibration::collect_with(&device, &model, decoded(5).batch_size(2), &seen).unwrap();
    let quantized = Quantizer::new().quantize_with(&model, &calibration, &seen).unwrap();
    let contenders = [Contender { name: "q", network: &quantized, layers: false }];
    Evaluation::of(&device, None, &contenders, decoded(3), &seen).unwrap();
    let events = seen.0.into_inner().unwrap();
    let begun: Vec<_> = events
        .iter()
        .filter_map(|e| if let Event::Begin { stage, total } = e { Some((*stage, *total)) } else { None })
        .collect();
    let expected =
        [(Stage::Calibrate, Some(5)), (Stage::Threshold, None), (Stage::Quantize, None), (Stage::Evaluate, Some(3))];
    assert_eq!(begun, expected);
    let ended: BTreeSet<String> = events
        .iter()
        .filter_map(|e| if let Event::End { stage } = e { Some(format!("{stage:?}")) } else { None })
        .collect();
    assert_eq!(ended.len(), 4);
    let items = |wanted| {
        events.iter().filter_map(move |e| match e {
            Event::Advance { stage, items } if *stage == wanted => Some(*items),
            _ => None,
        })
    };
    assert_eq!(items(Stage::Calibrate).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(items(Stage::Evaluate).sum::<u64>(), 3);
}

/// A device holds on to nothing that was given to it once it is dropped.
#[test]
fn a_profile_is_let_go_with_its_device() {
    let profile = Arc::new(repquant::profile::Profile::new());
    let model = plain_model();
    let device = Device::open(&DeviceOptions {
        choice: DeviceChoice::Cpu,
        profile: Some(Arc::clone(&profile)),
        ..Default::default()
    })
    .unwrap();
    let calibration = Calibration::collect(&device, &model, decoded(2)).unwrap();
    assert!(Arc::strong_count(&profile) > 1);
    drop(device);
    assert_eq!(Arc::strong_count(&profile), 1);
    assert!(profile.summary().kernels.iter().any(|row| row.kernel == "conv_f32"));
    assert_eq!(calibration.images(), 2);
}

/// The values of an output have its sides.
#[test]
fn outputs_have_their_shape() {
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/onnx/yolov6.onnx")).unwrap();
    let model = Model::from_onnx("detector", &bytes).unwrap();
    assert!(model.classes().is_none());
    let [height, width] = model.input().size;
    let device = Device::cpu();
    let inputs = || Images::tensors([ArrayD::<f32>::from_elem(IxDyn(&[2, 3, height, width]), 0.25)]);
    let batches: Vec<_> = model.run(&device, inputs()).unwrap().collect::<Result<_>>().unwrap();
    for (values, output) in batches[0].iter().zip(model.outputs()) {
        assert_eq!((values.shape()[0], &values.shape()[1..]), (2, output.sides.as_slice()), "{}", output.name);
    }
    // Both images are the same.
    for values in &batches[0] {
        assert_eq!(values.index_axis(Axis(0), 0), values.index_axis(Axis(0), 1));
    }
}
