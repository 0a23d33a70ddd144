// f32 values in another order: see src/kernels/rearrange/gather_f32.rs.

struct Params {
    images: u32,
    x_words: u32,
    y_quads: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> places: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

fn value(base: u32, place: u32) -> f32 {
    if place == 0xffffffffu {
        return 0.0;
    }
    return x[base + place];
}

// One invocation for each four channels of the output.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    let image = i / params.y_quads;
    if image >= params.images {
        return;
    }
    let base = image * params.x_words;
    let place = places[i % params.y_quads];
    y[i] = vec4<f32>(value(base, place.x), value(base, place.y), value(base, place.z), value(base, place.w));
}
