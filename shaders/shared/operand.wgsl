// Where the values of an operand lie, a side of which may be 1 where the result's is not:
// `Operand` in src/kernels/core/operand.rs.

struct Operand {
    // Fours of channels from one image, row, column and four channels to the next; 0 where one
    // serves all.
    image: u32,
    row: u32,
    column: u32,
    quad: u32,
}

// A place of the result: image, row, column and four channels.
struct Place {
    image: u32,
    row: u32,
    column: u32,
    quad: u32,
}

// The place of word i of a result of this size.
fn place_of(i: u32, height: u32, width: u32, quads: u32) -> Place {
    let pixel = i / quads;
    return Place(pixel / width / height, pixel / width % height, pixel % width, i % quads);
}

// The word of an operand at a place.
fn word_at(operand: Operand, at: Place) -> u32 {
    return at.image * operand.image + at.row * operand.row + at.column * operand.column + at.quad * operand.quad;
}

// What is read there: an operand of one channel holds it in its first lane.
fn lanes(operand: Operand, value: vec4<f32>) -> vec4<f32> {
    if operand.quad == 0u {
        return value.xxxx;
    }
    return value;
}
