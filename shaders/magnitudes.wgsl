// Counts the magnitudes of each channel in half octaves: see src/kernels/statistics/magnitudes.rs.

struct Params {
    pixels: u32,
    channels: u32,
    quads_per_pixel: u32,
    // Fours of channels of a workgroup: 1, 2 or 4.
    tile: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// Bits, not floats: a GPU may flush subnormal floats to zero.
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> counts: array<atomic<u32>>;

const CLASSES = 128u;

// 16 channels at most.
var<workgroup> classes: array<atomic<u32>, 2048>;

// Counts a finite value that is not zero in a channel of this workgroup, 0 to 15; the class is 0 to
// 127 whatever the bits.
fn count(bits: u32, channel: u32) {
    let magnitude = bits & 0x7FFFFFFFu;
    if magnitude != 0u && magnitude < 0x7F800000u {
        atomicAdd(&classes[channel * CLASSES + u32(clamp(i32(magnitude >> 22u) - 190, 0, 127))], 1u);
    }
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let counters = params.tile * 4u * CLASSES;
    for (var i = lane; i < counters; i += 256u) {
        atomicStore(&classes[i], 0u);
    }
    workgroupBarrier();

    // Neighbouring lanes take neighbouring fours of one pixel.
    let rows = 256u / params.tile;
    let local = (lane % params.tile) * 4u;
    let quad = group.x * params.tile + lane % params.tile;
    if quad < params.quads_per_pixel {
        // What is padding in the last four is counted here and dropped below. The place is below
        // pixels times quads: in x.
        for (var pixel = group.y * rows + lane / params.tile; pixel < params.pixels; pixel += groups.y * rows) {
            let bits = x[pixel * params.quads_per_pixel + quad];
            count(bits.x, local);
            count(bits.y, local + 1u);
            count(bits.z, local + 2u);
            count(bits.w, local + 3u);
        }
    }
    workgroupBarrier();

    let first = group.x * counters;
    let total = params.channels * CLASSES;
    for (var i = lane; i < counters; i += 256u) {
        let found = atomicLoad(&classes[i]);
        if found != 0u && first + i < total {
            atomicAdd(&counts[first + i], found);
        }
    }
}
