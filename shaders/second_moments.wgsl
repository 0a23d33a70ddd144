// Sums of products of the rows of a matrix of bytes, in 64 bits: see
// src/kernels/patches/second_moments.rs.
//
// A workgroup computes 32 rows × 32 columns of one block of one group, an invocation 4 × 4 of them,
// 8 apart. The column behind the last is all ones: it gives the sums of the rows themselves.

struct Params {
    // In fours of words, of 16 patches each: from row to row, from plane to plane, and how many of a
    // row are multiplied, a multiple of 4.
    stride: u32,
    plane: u32,
    spans: u32,
    // Rows of the block, the first of them, and from group to group.
    length: u32,
    first_row: u32,
    group_rows: u32,
    // Where the block's sums of products begin, and from group to group.
    first_pair: u32,
    group_pairs: u32,
    // Workgroups of this dispatch.
    first_tile: u32,
    end_tile: u32,
    unused0: u32,
    unused1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
// 64 bits each, the lower word first.
@group(0) @binding(2) var<storage, read_write> qq: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> uq: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> sums: array<vec2<u32>>;

// 4 spans × 32 rows, or columns: levels, and the two bytes of the other.
var<workgroup> tile_q: array<vec4<u32>, 128>;
var<workgroup> tile_high: array<vec4<u32>, 128>;
var<workgroup> tile_low: array<vec4<u32>, 128>;
var<workgroup> tile_columns: array<vec4<u32>, 128>;

fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}

// A row with four columns.
fn dots(a: vec4<u32>, b0: vec4<u32>, b1: vec4<u32>, b2: vec4<u32>, b3: vec4<u32>) -> vec4<i32> {
    return vec4<i32>(dot16(a, b0), dot16(a, b1), dot16(a, b2), dot16(a, b3));
}

// to + 256·high + low, exactly modulo 2^64.
fn add(to: vec2<u32>, high: i32, low: i32) -> vec2<u32> {
    var sum = to;
    let first = bitcast<u32>(high) << 8u;
    sum.x += first;
    sum.y += bitcast<u32>(high >> 24u) + u32(sum.x < first);
    let second = bitcast<u32>(low);
    sum.x += second;
    sum.y += bitcast<u32>(low >> 31u) + u32(sum.x < second);
    return sum;
}

// Adds what was found of a row, at columns 8 apart.
fn add_row(group: u32, i: u32, first_column: u32, qs: vec4<i32>, highs: vec4<i32>, lows: vec4<i32>) {
    if i >= params.length {
        return;
    }
    var q = qs;
    var high = highs;
    var low = lows;
    for (var c = 0u; c < 4u; c++) {
        let j = first_column + 8u * c;
        if j < params.length {
            let at = params.first_pair + group * params.group_pairs + i * params.length + j;
            uq[at] = add(uq[at], high.x, low.x);
            if j >= i {
                qq[at] = add(qq[at], 0, q.x);
            }
        } else if j == params.length {
            let at = 2u * (params.first_row + group * params.group_rows + i);
            sums[at] = add(sums[at], 0, q.x);
            sums[at + 1u] = add(sums[at + 1u], high.x, low.x);
        }
        q = q.yzwx;
        high = high.yzwx;
        low = low.yzwx;
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group_id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let flat = params.first_tile + flat_group(group_id, groups);
    if flat >= params.end_tile {
        return;
    }
    let tile_rows = (params.length + 31u) / 32u;
    let tile_columns_count = params.length / 32u + 1u;
    let group = flat / (tile_rows * tile_columns_count);
    let tile_row = flat % (tile_rows * tile_columns_count) / tile_columns_count;
    let tile_column = flat % tile_columns_count;
    // Products of levels are needed on the diagonal and right of it alone.
    let upper = tile_column >= tile_row;

    // What this invocation loads: two spans of a row and of a column, those past the last of the
    // last.
    let first_row = params.first_row + group * params.group_rows;
    let last = params.length - 1u;
    let from_row = (first_row + min(tile_row * 32u + lane % 32u, last)) * params.stride + lane / 32u;
    let column = tile_column * 32u + lane % 32u;
    let from_column = (first_row + min(column, last)) * params.stride + lane / 32u;
    let ones = column == params.length;

    // What it computes.
    let own_row = lane / 8u;
    let own_column = lane % 8u;
    let i = tile_row * 32u + own_row;
    let j = tile_column * 32u + own_column;
    let works = i < params.length && j <= params.length;
    var q0 = vec4<i32>();
    var q1 = vec4<i32>();
    var q2 = vec4<i32>();
    var q3 = vec4<i32>();
    var h0 = vec4<i32>();
    var h1 = vec4<i32>();
    var h2 = vec4<i32>();
    var h3 = vec4<i32>();
    var l0 = vec4<i32>();
    var l1 = vec4<i32>();
    var l2 = vec4<i32>();
    var l3 = vec4<i32>();

    for (var span = 0u; span < params.spans; span += 4u) {
        for (var k = 0u; k < 4u; k += 2u) {
            let at = from_row + span + k;
            let into = k * 32u + lane;
            if upper {
                tile_q[into] = x[at];
            }
            tile_high[into] = x[at + params.plane];
            tile_low[into] = x[at + 2u * params.plane];
            tile_columns[into] = select(x[from_column + span + k], vec4<u32>(0x01010101u), ones);
        }
        workgroupBarrier();
        if works {
            for (var k = 0u; k < 4u; k++) {
                let b = k * 32u + own_column;
                let b0 = tile_columns[b];
                let b1 = tile_columns[b + 8u];
                let b2 = tile_columns[b + 16u];
                let b3 = tile_columns[b + 24u];
                let a = k * 32u + own_row;
                if upper {
                    q0 += dots(tile_q[a], b0, b1, b2, b3);
                    q1 += dots(tile_q[a + 8u], b0, b1, b2, b3);
                    q2 += dots(tile_q[a + 16u], b0, b1, b2, b3);
                    q3 += dots(tile_q[a + 24u], b0, b1, b2, b3);
                }
                h0 += dots(tile_high[a], b0, b1, b2, b3);
                h1 += dots(tile_high[a + 8u], b0, b1, b2, b3);
                h2 += dots(tile_high[a + 16u], b0, b1, b2, b3);
                h3 += dots(tile_high[a + 24u], b0, b1, b2, b3);
                l0 += dots(tile_low[a], b0, b1, b2, b3);
                l1 += dots(tile_low[a + 8u], b0, b1, b2, b3);
                l2 += dots(tile_low[a + 16u], b0, b1, b2, b3);
                l3 += dots(tile_low[a + 24u], b0, b1, b2, b3);
            }
        }
        workgroupBarrier();
    }

    add_row(group, i, j, q0, h0, l0);
    add_row(group, i + 8u, j, q1, h1, l1);
    add_row(group, i + 16u, j, q2, h2, l2);
    add_row(group, i + 24u, j, q3, h3, l3);
}
