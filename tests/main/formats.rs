//! TIFF and GIF files.

use repquant::internals::images::{Dataset, decode};

use crate::images::assert_damage_does_no_harm;

/// A picture of 200 colours, 13×9, as TIFF and as GIF.
fn tiff_and_gif() -> (image::RgbImage, [(&'static str, Vec<u8>); 2]) {
    let picture = image::RgbImage::from_fn(13, 9, |x, y| image::Rgb([(x * 19) as u8, (y * 28) as u8, 90]));
    let files = [("a.tif", image::ImageFormat::Tiff), ("b.gif", image::ImageFormat::Gif)].map(|(name, format)| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).expect("written");
        (name, bytes.into_inner())
    });
    (picture, files)
}

#[test]
fn tiff_and_the_first_frame_of_a_gif_are_read() {
    let (picture, files) = tiff_and_gif();
    let root = tempfile::tempdir().expect("a folder");
    for (name, bytes) in files {
        assert_eq!(decode::decode(&bytes).expect(name).pixels, *picture.as_raw(), "{name}");
        // Cut in its header or pixels; what is behind them may be missing.
        for end in (0..bytes.len() / 2).chain([bytes.len() - 20]) {
            let error = decode::decode(&bytes[..end]).expect_err(name).to_string();
            assert!(end < 6 || error.contains("truncated or broken"), "{name} cut at {end}: {error}");
        }
        assert_damage_does_no_harm(name, &bytes);
        std::fs::write(root.path().join(name), &bytes).expect("written");
    }
    let found = Dataset::unlabelled(root.path()).expect("images");
    assert_eq!((found.items.len(), found.found.left_out.len()), (2, 0));

    // Two frames, and a palette with one transparent colour, whose own colour stays.
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
    let frame = |value: u8| image::RgbaImage::from_fn(2, 1, |x, _| image::Rgba([value, 7, 9, (x * 255) as u8]));
    encoder.encode_frames([frame(5), frame(200)].map(image::Frame::new)).expect("encoded");
    drop(encoder);
    let first = decode::decode(&bytes).expect("a GIF of two frames");
    assert_eq!((first.width, first.height, &first.pixels[3..]), (2, 1, [5, 7, 9].as_slice()));

    // A claim of 65,535 × 65,535 pixels.
    let mut claims = bytes;
    claims[6..10].fill(0xFF);
    let error = decode::decode(&claims).expect_err("too large").to_string();
    assert!(error.contains("GIF claims 65535×65535 pixels"), "{error}");
}
