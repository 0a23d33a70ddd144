//! Bytes as an ONNX file: read or refused, never a panic, and what is read is in order.
//!
//!     cargo install cargo-fuzz
//!     mkdir -p fuzz/corpus/onnx && cp tests/data/onnx/*.onnx fuzz/corpus/onnx
//!     python3 tests/onnx/nodes.py fuzz/corpus/onnx          (small networks of every operator; needs the onnx package)
//!     cargo +nightly fuzz run onnx -- -max_total_time=600 -rss_limit_mb=2048 -timeout=10
#![no_main]

use libfuzzer_sys::fuzz_target;
use repquant::internals::load::onnx::read_bytes;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(graph) = read_bytes("fuzz", bytes) {
        graph.check().expect("a network that is read is in order");
        assert_eq!(graph.digest().len(), 64);
    }
});
