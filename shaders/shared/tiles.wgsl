// What the tiled convolutions share, put in front of each of them, behind geometry.wgsl: see
// src/kernels/conv/float/tiled.rs and src/kernels/conv/int8/tiled.rs. A tile has 16 output quads of
// one group.

// Where a workgroup's outputs lie: from which pixel on, in which group, and from which of the
// group's quads on.
struct Place {
    pixel: u32,
    group: u32,
    quad: u32,
}

// Workgroups with the same pixels follow each other.
fn place_of(flat: u32, pixels: u32) -> Place {
    let g = params.geometry;
    let columns = (g.group_out_quads + 15u) / 16u;
    let all_columns = g.out_quads / g.group_out_quads * columns;
    let pixel = params.first_pixel + flat / all_columns * pixels;
    return Place(pixel, flat % all_columns / columns, flat % columns * 16u);
}

// The window that an invocation loads, and its first tap. A pointwise layer has no other.
struct Window {
    corner: vec3<u32>,
    tap: Tap,
}

fn window_of(pixel: u32) -> Window {
    var window = Window(vec3<u32>(), Tap(min(pixel, params.end_pixel - 1u) * params.geometry.in_quads, true));
    if !is_pointwise() {
        window.corner = corner(pixel);
        window.tap = tap_at(window.corner, 0u, 0u);
    }
    return window;
}

// How far an invocation is with its loads: `at` counts within a tap.
struct Walk {
    at: u32,
    dy: u32,
    dx: u32,
}

// Goes on to the next tap where a tap is through, which has so many steps; to further ones where a
// tap has fewer steps than a tile. Taps past the last one are in rows past the kernel.
fn next_tap(walk: Walk, steps: u32) -> Walk {
    var next = walk;
    while next.at >= steps {
        next.at -= steps;
        next.dx += 1u;
        if next.dx == params.geometry.kernel_width {
            next.dx = 0u;
            next.dy += 1u;
        }
    }
    return next;
}
