//! Image sets: golden files from Pillow, datasets, batches, and everything that can be wrong with
//! them.
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use repquant::ErrorKind;
use repquant::internals::images::{Batch, BatchOptions, Batches, Dataset, Found, Item, RgbImage, decode, preprocess};
use repquant::internals::model::{Color, Decode, Fit, Interpolation, Preprocessing};
use safetensors::SafeTensors;
use serde::Deserialize;
use tempfile::TempDir;

use crate::common::test_data;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/images")
}

fn preprocessing(size: [usize; 2], resize: Option<usize>, interpolation: Interpolation) -> Preprocessing {
    Preprocessing {
        size,
        resize,
        interpolation,
        mean: vec![0.5; 3],
        std: vec![0.5; 3],
        fit: Fit::Crop,
        color: Color::Rgb,
        decode: Decode::Full,
    }
}

fn bilinear(size: [usize; 2], resize: usize) -> Preprocessing {
    preprocessing(size, Some(resize), Interpolation::Bilinear)
}

fn options(batch_size: usize, skip_bad: bool) -> BatchOptions {
    BatchOptions { batch_size, skip_bad, threads: Some(2) }
}

/// A folder with the named files, each a copy of a fixture.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let root = TempDir::new().expect("temporary folder");
    for (name, fixture) in files {
        put(&root, name, &fs::read(fixtures().join(fixture)).expect("fixture"));
    }
    root
}

fn put(root: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = root.path().join(name);
    fs::create_dir_all(path.parent().expect("a file in a folder")).expect("folder");
    fs::write(&path, bytes).expect("written");
    path
}

fn names(items: &[Item], root: &TempDir) -> Vec<(String, Option<usize>)> {
    let name = |i: &Item| i.path.strip_prefix(root.path()).expect("below the root").display().to_string();
    items.iter().map(|i| (name(i), i.label)).collect()
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|&n| n.to_owned()).collect()
}

#[track_caller]
fn assert_says(error: &repquant::Error, parts: &[&str]) {
    let message = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Input, "{message}");
    for part in parts {
        assert!(message.contains(part), "`{part}` is missing in: {message}");
    }
}

#[derive(Deserialize)]
struct Case {
    width: usize,
    height: usize,
    resize: usize,
    size: [usize; 2],
    interpolation: Interpolation,
    seed: u32,
}

/// The noise of `make_images.py`.
fn noise(width: usize, height: usize, seed: u32) -> RgbImage {
    let mut state = seed;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        state.to_be_bytes()[0]
    });
    RgbImage { width, height, pixels: bytes.take(width * height * 3).collect() }
}

fn unpack(pixels: &[u32]) -> Vec<u8> {
    pixels.iter().flat_map(|p| [*p as u8, (p >> 8) as u8, (p >> 16) as u8]).collect()
}

#[test]
fn resize_and_crop_are_pillows_to_the_bit() {
    let bytes = fs::read(fixtures().join("golden.safetensors")).expect("golden file");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("header");
    let metadata: &HashMap<String, String> = metadata.metadata().as_ref().expect("metadata");
    let cases: Vec<Case> = serde_json::from_str(&metadata["cases"]).expect("cases");
    assert_eq!(cases.len(), 56);
    let golden = SafeTensors::deserialize(&bytes).expect("golden tensors");
    for (number, case) in cases.iter().enumerate() {
        let expected = golden.tensor(&format!("resize{number:02}")).expect("result");
        assert_eq!(expected.shape(), [case.size[0], case.size[1], 3]);
        let image = noise(case.width, case.height, case.seed);
        let pixels = preprocess(&image, &preprocessing(case.size, Some(case.resize), case.interpolation));
        let got = unpack(&pixels.expect("resized"));
        let differing = got.iter().zip(expected.data()).filter(|(a, b)| a != b).count();
        assert_eq!(
            differing, 0,
            "{}×{} to {} {:?}, crop {:?}",
            case.width, case.height, case.resize, case.interpolation, case.size
        );
    }
}

#[test]
fn files_decode_to_pillows_rgb() {
    let bytes = fs::read(fixtures().join("golden.safetensors")).expect("golden file");
    let golden = SafeTensors::deserialize(&bytes).expect("golden tensors");
    let mut seen = 0;
    for (name, expected) in golden.tensors().iter().filter(|(name, _)| name.contains('.')) {
        let image = decode::read(&fixtures().join(name)).expect(name);
        assert_eq!([image.height, image.width, 3], expected.shape(), "{name}");
        assert!(image.pixels == expected.data(), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 20);
}

#[test]
fn sixteen_bit_gray_keeps_the_high_byte() {
    // Pillow clips this one kind at 255 instead, which leaves nothing of the picture.
    let gray = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(3, 1, vec![0x00FFu16, 0x8001, 0xFEDC]);
    let gray = gray.expect("3 pixels");
    let root = folder(&[]);
    for name in ["gray16.png", "gray16.tif"] {
        let path = root.path().join(name);
        gray.save(&path).expect("written");
        assert_eq!(decode::read(&path).expect("decoded").pixels, [0, 0, 0, 0x80, 0x80, 0x80, 0xFE, 0xFE, 0xFE]);
    }
}

#[test]
fn the_content_decides_the_format() {
    let root = folder(&[("really_a_png.jpg", "rgb.png")]);
    let misnamed = decode::read(&root.path().join("really_a_png.jpg")).expect("decoded");
    assert_eq!(misnamed, decode::read(&fixtures().join("rgb.png")).expect("decoded"));
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    for name in ["rgb.jpg", "progressive.jpg", "rgb.png", "palette.png", "rgb.bmp", "lossless.webp", "lossy.webp"] {
        let bytes = fs::read(fixtures().join(name)).expect("fixture");
        // What follows the pixels of a PNG may be missing: their checksum and an empty chunk.
        let tail = if name.ends_with("png") { 16 } else { 0 };
        for end in 0..bytes.len() - tail {
            assert!(decode::decode(&bytes[..end]).is_err(), "{name} cut at {end} of {}", bytes.len());
        }
    }
}

/// Every byte in turn takes other values: what still decodes is whole, and nothing panics.
pub(crate) fn assert_damage_does_no_harm(name: &str, bytes: &[u8]) {
    for at in 0..bytes.len() {
        for value in [0x00, 0x7F, 0xFF] {
            let mut damaged = bytes.to_vec();
            damaged[at] = value;
            if let Ok(image) = decode::decode(&damaged) {
                assert_eq!(image.pixels.len(), image.width * image.height * 3, "{name} damaged at {at}");
            }
        }
    }
}

#[test]
fn a_damaged_file_never_panics() {
    for name in ["rgb.jpg", "progressive.jpg", "rgb.png", "palette.png", "gray.bmp", "lossless.webp", "lossy.webp"] {
        let bytes = fs::read(fixtures().join(name)).expect("fixture");
        assert_damage_does_no_harm(name, &bytes);
    }
}

#[test]
fn one_pixel_and_a_very_long_image() {
    let root = folder(&[]);
    image::RgbImage::from_pixel(1, 1, image::Rgb([10, 20, 30])).save(root.path().join("dot.png")).expect("written");
    let long = image::RgbImage::from_fn(10_000, 10, |x, _| image::Rgb([(x / 40) as u8, 0, 0]));
    long.save(root.path().join("long.png")).expect("written");
    let items = Dataset::unlabelled(root.path()).expect("2 images").items;
    let batch =
        Batches::new(items, &bilinear([224, 224], 256), options(2, false)).next().expect("a batch").expect("read");
    let (dot, long) = batch.pixels().split_at(224 * 224);
    assert!(dot.iter().all(|&p| p == u32::from_le_bytes([10, 20, 30, 0])));
    // 224 of 256,000 columns show under 10 of the 10,000, around the middle one.
    assert!(long.iter().all(|&p| p == 124 || p == 125), "{:x?}", &long[..224]);
    assert!(long.contains(&124) && long.contains(&125));
}

#[test]
fn unlabelled_images_are_found_at_any_depth_in_the_order_of_their_paths() {
    let root = folder(&[
        ("b.PNG", "rgb.png"),
        ("a/z.jpeg", "rgb.jpg"),
        ("a/b/c.WebP", "lossy.webp"),
        ("c.bmp", "rgb.bmp"),
        ("d.jpe", "rgb.jpg"),
        ("e.JFIF", "rgb.jpg"),
        (".hidden.png", "rgb.png"),
        (".cache/x.png", "rgb.png"),
    ]);
    put(&root, "notes.txt", b"not an image");
    let dataset = Dataset::unlabelled(root.path()).expect("6 images");
    let expected = ["a/b/c.WebP", "a/z.jpeg", "b.PNG", "c.bmp", "d.jpe", "e.JFIF"].map(|n| (n.to_owned(), None));
    assert_eq!(names(&dataset.items, &root), expected);
    assert_eq!(dataset.classes, None);
    assert_eq!(dataset.found.left_out, [("txt".to_owned(), 1)].into());
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    use std::os::unix::fs::symlink;
    let root = folder(&[("cat/a.png", "rgb.png"), ("dog/b.png", "rgb.png")]);
    symlink(root.path(), root.path().join("cat/loop")).expect("link");
    symlink("../cat", root.path().join("dog/cats")).expect("link");
    symlink("missing.png", root.path().join("cat/gone.png")).expect("link");
    let all = Dataset::unlabelled(root.path()).expect("images");
    // A broken link is a bad image, not a missing one.
    let all: Vec<_> = names(&all.items, &root).into_iter().map(|(name, _)| name).collect();
    assert_eq!(all, ["cat/a.png", "cat/gone.png", "dog/b.png"]);
    // The way from a class back to the root leads nowhere, so no dog is called a cat.
    let cats = Dataset::labelled(root.path(), None, None).expect("images").items;
    assert_eq!(cats.iter().filter(|i| i.label == Some(0)).count(), 2);
}

#[test]
fn class_folders_give_the_labels() {
    let files = [("dog/2.png", "rgb.png"), ("cat/3.png", "rgb.png"), ("cat/deep/1.png", "rgb.png")];
    let root = folder(&files);
    let dataset = Dataset::labelled(root.path(), None, None).expect("3 images");
    assert_eq!(dataset.classes, Some(strings(&["cat", "dog"])));
    let found = names(&dataset.items, &root);
    assert_eq!(
        found,
        [("cat/3.png", 0), ("cat/deep/1.png", 0), ("dog/2.png", 1)].map(|(n, l)| (n.to_owned(), Some(l)))
    );

    // The description's order, and more classes than folders.
    let classes = strings(&["bird", "dog", "cat"]);
    let dataset = Dataset::labelled(root.path(), None, Some(&classes)).expect("3 images");
    assert_eq!(dataset.items.iter().map(|i| i.label).collect::<Vec<_>>(), [Some(2), Some(2), Some(1)]);
    assert_eq!(dataset.classes, Some(classes));

    let error = Dataset::labelled(root.path(), None, Some(&strings(&["cat", "bird"]))).expect_err("unknown folder");
    assert_says(&error, &["`dog` is not a class of the model", "cat, bird"]);
    put(&root, "stray.png", b"");
    let error = Dataset::labelled(root.path(), None, None).expect_err("no class");
    assert_says(&error, &["stray.png", "class folder", "labels file"]);
}

#[test]
fn a_labels_file_gives_the_labels() {
    let root =
        folder(&[("a.png", "rgb.png"), ("my, cat.png", "rgb.png"), ("x/b.png", "rgb.png"), ("c.png", "rgb.png")]);
    let text = "\u{feff}# a comment\r\n\na.png,tree frog\r\nmy, cat.png dog\n  x/b.png\t1  \n./c.png , 2";
    let labels = put(&root, "labels.txt", text.as_bytes());
    let classes = strings(&["tree frog", "cat", "dog"]);
    let dataset = Dataset::labelled(root.path(), Some(&labels), Some(&classes)).expect("4 images");
    let found = dataset.items.iter().map(|i| (i.path.clone(), i.label)).collect::<Vec<_>>();
    let expected = [("a.png", 0), ("c.png", 2), ("my, cat.png", 2), ("x/b.png", 1)];
    assert_eq!(found, expected.map(|(n, l)| (root.path().join(n), Some(l))));
    assert_eq!(dataset.classes, Some(classes));
}

#[test]
fn a_wrong_labels_file_is_refused_with_the_line() {
    let root = folder(&[("a.png", "rgb.png"), ("b.png", "rgb.png")]);
    let classes = strings(&["cat", "dog"]);
    let read = |text: &str, classes: Option<&[String]>| {
        let labels = put(&root, "labels.txt", text.as_bytes());
        Dataset::labelled(root.path(), Some(&labels), classes).expect_err("refused")
    };
    let named = Some(&classes[..]);
    assert_says(&read("a.png cat\n\nmissing.png dog", named), &["labels.txt:3", "no file `missing.png`"]);
    assert_says(&read("a.png bird", named), &["labels.txt:1", "`bird` is not a class", "cat, dog"]);
    assert_says(&read("a.png 2", named), &["labels.txt:1", "class 2 does not exist", "2 classes"]);
    assert_says(&read("a.png -1", None), &["labels.txt:1", "`-1` is no index"]);
    assert_says(&read("a.png cat", None), &["labels.txt:1", "no class names"]);
    assert_says(&read("a.png 0\nb.png 1\n./a.png 1", None), &["labels.txt:3", "listed in line 1"]);
    assert_says(&read("a.png", named), &["labels.txt:1", "is not `file class`"]);
    assert_says(&read("# nothing\n", named), &["labels.txt", "lists no images"]);
    let error = Dataset::labelled(root.path(), Some(&root.path().join("none.txt")), None).expect_err("missing");
    assert_says(&error, &["none.txt", "cannot read the labels"]);
    let labels = put(&root, "latin1.txt", b"a.png caf\xe9");
    assert_says(&Dataset::labelled(root.path(), Some(&labels), None).expect_err("not UTF-8"), &["latin1.txt", "UTF-8"]);
}

#[test]
fn a_folder_without_images_is_refused() {
    let root = folder(&[]);
    let file = put(&root, "notes.txt", b"");
    let missing = root.path().join("missing");
    for labelled in [false, true] {
        let open = |path: &Path| {
            let set = if labelled { Dataset::labelled(path, None, None) } else { Dataset::unlabelled(path) };
            set.expect_err("refused")
        };
        assert_says(&open(root.path()), &["holds no images", "jpg"]);
        assert_says(&open(&missing), &["missing: no such folder"]);
        assert_says(&open(&file), &["is a file, not a folder"]);
    }
}

#[test]
fn a_limit_takes_images_evenly() {
    let item = |i: usize| Item { path: PathBuf::from(format!("{i:02}")), label: None };
    let dataset = Dataset { items: (0..10).map(item).collect(), classes: None, found: Found::default() };
    let kept = |n| dataset.clone().limit(n).items.iter().map(|i| i.path.display().to_string()).collect::<Vec<_>>();
    assert_eq!(kept(4), ["00", "02", "05", "07"]);
    assert_eq!(kept(3), ["00", "03", "06"]);
    assert_eq!(kept(1), ["00"]);
    assert_eq!(kept(10).len(), 10);
    assert_eq!(kept(usize::MAX).len(), 10);
}

/// 9 good images among which lie a text file, a truncated JPEG and a missing file.
fn with_bad_images() -> (TempDir, Vec<Item>) {
    let root = folder(&[]);
    let jpeg = fs::read(fixtures().join("rgb.jpg")).expect("fixture");
    for i in 0..9 {
        put(&root, &format!("{i}.jpg"), &jpeg);
    }
    put(&root, "1b.jpg", b"hello");
    put(&root, "3b.jpg", &jpeg[..jpeg.len() / 2]);
    let mut items = Dataset::unlabelled(root.path()).expect("images").items;
    items.push(Item { path: root.path().join("gone.jpg"), label: None });
    (root, items)
}

#[test]
fn the_first_bad_image_is_an_error() {
    let (root, items) = with_bad_images();
    let mut batches = Batches::new(items.clone(), &bilinear([8, 8], 8), options(2, false));
    // The order by name puts 1b.jpg third: "1.jpg" < "1b.jpg".
    assert_eq!(batches.next().expect("0 and 1").expect("good").count, 2);
    let error = batches.next().expect("an error").expect_err("bad");
    assert_says(&error, &["1b.jpg: not a JPEG, PNG, WebP, BMP, TIFF or GIF image", "`skip_bad`"]);
    assert!(batches.next().is_none());

    let truncated = vec![Item { path: root.path().join("3b.jpg"), label: None }];
    let error = Batches::new(truncated, &bilinear([8, 8], 8), options(2, false)).next().expect("one").expect_err("bad");
    assert_says(&error, &["3b.jpg: the JPEG is truncated"]);
}

#[test]
fn bad_images_are_skipped_and_listed() {
    let (root, items) = with_bad_images();
    for threads in [1, 2, 5] {
        let options = BatchOptions { batch_size: 4, skip_bad: true, threads: Some(threads) };
        let mut batches = Batches::new(items.clone(), &bilinear([8, 8], 8), options);
        let found: Vec<Batch> = batches.by_ref().map(|b| b.expect("skipped")).collect();
        assert_eq!(found.iter().map(|b| b.count).collect::<Vec<_>>(), [4, 4, 1]);
        let skipped = batches.skipped();
        let paths: Vec<_> = skipped.iter().map(|s| s.path.clone()).collect();
        assert_eq!(paths, ["1b.jpg", "3b.jpg", "gone.jpg"].map(|n| root.path().join(n)));
        assert!(skipped[1].reason.contains("truncated") && skipped[2].reason.contains("cannot be read"));
    }
}

#[test]
fn nothing_but_bad_images_is_an_error() {
    let root = folder(&[]);
    put(&root, "a.jpg", b"hello");
    put(&root, "b.jpg", b"hello");
    let items = Dataset::unlabelled(root.path()).expect("2 files").items;
    let mut batches = Batches::new(items, &bilinear([8, 8], 8), options(1, true));
    assert_says(&batches.next().expect("an error").expect_err("bad"), &["a.jpg", "none of the 2 images can be read"]);
    assert!(batches.next().is_none());
}

#[test]
fn an_image_of_another_size_is_refused_without_resize() {
    let root = folder(&[("a.jpg", "rgb.jpg")]);
    let items = Dataset::unlabelled(root.path()).expect("1 image").items;
    let exact = preprocessing([27, 38], None, Interpolation::Bilinear);
    let batch = Batches::new(items.clone(), &exact, options(1, false)).next().expect("a batch").expect("same size");
    assert_eq!(unpack(batch.pixels()), decode::read(&items[0].path).expect("decoded").pixels);
    let other = preprocessing([38, 27], None, Interpolation::Bilinear);
    let error = Batches::new(items, &other, options(1, false)).next().expect("an error").expect_err("another size");
    assert_says(&error, &["a.jpg", "38×27", "27×38", "`resize`"]);
}

#[test]
fn batches_are_the_same_for_any_number_of_threads() {
    let root = folder(&[]);
    for i in 0..40u32 {
        // Of very different sizes, so that threads finish out of turn.
        let side = if i % 7 == 0 { 600 } else { 8 + i };
        let image = image::RgbImage::from_fn(side, side, |x, y| image::Rgb([(x * i) as u8, (y + i) as u8, i as u8]));
        image.save(root.path().join(format!("{i:02}.png"))).expect("written");
    }
    let items = Dataset::unlabelled(root.path()).expect("40 images").items;
    let items: Vec<Item> = items.into_iter().zip(0..).map(|(i, label)| Item { label: Some(label), ..i }).collect();
    let read = |threads, batch_size| {
        let options = BatchOptions { batch_size, skip_bad: false, threads };
        let batches = Batches::new(items.clone(), &bilinear([16, 16], 20), options);
        batches.map(|b| b.expect("good")).collect::<Vec<Batch>>()
    };
    let expected = read(Some(1), 7);
    assert_eq!(expected.iter().map(|b| b.count).collect::<Vec<_>>(), [7, 7, 7, 7, 7, 5]);
    let labels: Vec<_> = expected.iter().flat_map(|b| b.labels.clone()).collect();
    assert_eq!(labels, (0..40).map(Some).collect::<Vec<_>>());
    for threads in [Some(2), Some(3), Some(16), None] {
        assert_eq!(read(threads, 7), expected, "{threads:?}");
    }
    let mut whole = read(Some(4), 1000);
    assert_eq!(whole.len(), 1);
    assert_eq!(whole.remove(0).split(7).collect::<Vec<_>>(), expected);
}

#[test]
fn no_more_than_two_batches_are_read_ahead() {
    const BATCH: usize = 4;
    const THREADS: usize = 3;
    let root = folder(&[]);
    let png = fs::read(fixtures().join("rgb.png")).expect("fixture");
    let paths: Vec<PathBuf> = (0..60).map(|i| put(&root, &format!("{i:02}.png"), &png)).collect();
    let items: Vec<Item> = paths.iter().map(|path| Item { path: path.clone(), label: None }).collect();
    let options = BatchOptions { batch_size: BATCH, skip_bad: false, threads: Some(THREADS) };
    let mut batches = Batches::new(items, &bilinear([8, 8], 8), options);
    assert_eq!(batches.next().expect("a batch").expect("good").count, BATCH);
    // Time enough to read everything, were that not held back; then what was not read yet is gone.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let ahead = BATCH + 2 * BATCH + THREADS;
    paths[ahead..].iter().for_each(|path| fs::remove_file(path).expect("removed"));
    let good = batches.by_ref().take_while(Result::is_ok).count() * BATCH;
    assert_eq!(good, (ahead - BATCH) / BATCH * BATCH);

    // Dropping an unfinished iterator ends its threads: this returns.
    let items = paths[..ahead].iter().map(|path| Item { path: path.clone(), label: None }).collect();
    drop(Batches::new(items, &bilinear([8, 8], 8), BatchOptions { batch_size: 1, skip_bad: false, threads: None }));
}

#[test]
fn a_thread_that_has_nothing_to_decode_is_waiting() {
    let root = folder(&[]);
    let png = fs::read(fixtures().join("rgb.png")).expect("fixture");
    let items: Vec<Item> = (0..9).map(|i| Item { path: put(&root, &format!("{i}.png"), &png), label: None }).collect();
    let start = std::time::Instant::now();
    let options = BatchOptions { batch_size: 1, skip_bad: false, threads: Some(1) };
    let mut batches = Batches::new(items, &bilinear([8, 8], 8), options);
    assert!(batches.next().expect("a batch").is_ok());
    // Three more are decoded meanwhile. The fifth is asked for after that, and when it is there the
    // wait before it is known.
    let pause = std::time::Duration::from_millis(400);
    std::thread::sleep(pause);
    assert_eq!(batches.by_ref().take(4).flatten().count(), 4);
    let waited = batches.decoding_waited();
    assert!(waited > pause / 2 && waited < start.elapsed(), "{waited:?}");
}

#[test]
fn photographs_become_the_input_of_an_imagenet_model() {
    let Some(data) = test_data() else { return };
    let dataset = Dataset::unlabelled(&data.join("data/photos")).expect("photographs").limit(12);
    let read = |interpolation| {
        let preprocessing = preprocessing([224, 224], Some(256), interpolation);
        let batches = Batches::new(dataset.items.clone(), &preprocessing, options(5, false));
        batches.map(|b| b.expect("good")).collect::<Vec<Batch>>()
    };
    let (bilinear, bicubic) = (read(Interpolation::Bilinear), read(Interpolation::Bicubic));
    assert_eq!(bilinear.iter().map(|b| b.count).collect::<Vec<_>>(), [5, 5, 2]);
    for (a, b) in bilinear.iter().zip(&bicubic) {
        assert_eq!(a.pixels().len(), a.count * 224 * 224);
        let (a, b) = (unpack(a.pixels()), unpack(b.pixels()));
        let mean = a.iter().zip(&b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64;
        // Two filters on the same picture: alike, yet not the same.
        assert!(mean > 0.1 && mean < 5.0, "mean difference {mean}");
    }
}
