// What is kept of an activation: `State` in src/kernels/statistics/state.rs, one row of a `states`
// buffer. Several workgroups update a row at the same time.

struct State {
    exponent: i32,
    min_key: atomic<u32>,
    max_key: atomic<u32>,
    bad_image: atomic<u32>,
    zeros: atomic<u32>,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}
