# make demo   build, and run the whole pipeline on an embedded network and drawn images
# make test   make sure that a Vulkan driver and ONNX Runtime are there, build, run every test
# make check  formatting, lints, docs
# make bench  every bench, and the comparison with ONNX Runtime: see benches/README.md

.PHONY: demo test check bench

demo:
	cargo run --release -- demo

# The first line sees to it that there is an adapter, so a test that finds none fails instead of being skipped; the second
# that there is a Python with ONNX Runtime. The kernels run twice: as shipped, and with the runtime's bounds checks on.
test:
	./scripts/ensure-vulkan.sh
	python=$$(./scripts/test-python.sh) && REPQUANT_PYTHON=$$python REPQUANT_REQUIRE_ADAPTER=1 cargo test
	REPQUANT_REQUIRE_ADAPTER=1 REPQUANT_SHADER_CHECKS=1 cargo test --lib kernels_agree_with_their_twins

check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --no-default-features --lib -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet

bench:
	./scripts/bench.sh
