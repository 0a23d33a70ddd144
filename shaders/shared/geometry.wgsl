// Where the windows of a convolution lie, put in front of every convolution: see
// src/kernels/conv/geometry.rs. The shader declares `params`, with `geometry`, and the output
// pixels `first_pixel` to `end_pixel` of the dispatch.

// Sizes of a convolution, channels in fours: `Geometry` on the host.
struct Geometry {
    images: u32,
    in_height: u32,
    in_width: u32,
    in_quads: u32,
    out_height: u32,
    out_width: u32,
    out_quads: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_y: u32,
    stride_x: u32,
    pad_y: u32,
    pad_x: u32,
    group_in_quads: u32,
    group_out_quads: u32,
    out_last: u32,
}

// Whether an output pixel reads the input pixel of the same index alone.
fn is_pointwise() -> bool {
    let g = params.geometry;
    return all(vec4<u32>(g.kernel_height, g.kernel_width, g.stride_y, g.stride_x) == vec4<u32>(1u))
        && (g.pad_y | g.pad_x) == 0u;
}

// Where the window of an output pixel begins: row and column, which wrap around where they are
// negative, and the image's first pixel. Past the last pixel it is the window of the last one.
fn corner(pixel: u32) -> vec3<u32> {
    let g = params.geometry;
    let p = min(pixel, params.end_pixel - 1u);
    let row = p / g.out_width;
    let image = row / g.out_height;
    let top = (row % g.out_height) * g.stride_y - g.pad_y;
    let left = (p % g.out_width) * g.stride_x - g.pad_x;
    return vec3<u32>(top, left, image * g.in_height * g.in_width);
}

// The first quad that a tap of a window reads, and whether the tap is inside the image; 0 and false
// where it is not.
struct Tap {
    base: u32,
    inside: bool,
}

// A coordinate that wrapped around is larger than any image.
fn tap_at(corner: vec3<u32>, dy: u32, dx: u32) -> Tap {
    let g = params.geometry;
    let row = corner.x + dy;
    let column = corner.y + dx;
    let inside = row < g.in_height && column < g.in_width;
    return Tap(select(0u, (corner.z + row * g.in_width + column) * g.in_quads, inside), inside);
}
