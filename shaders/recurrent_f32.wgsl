// Recurrent cells over sequences in f32: see src/kernels/recurrent/kernel.rs.

struct Params {
    images: u32,
    steps: u32,
    sequences: u32,
    features: u32,
    hidden: u32,
    directions: u32,
    // 1 where the first direction goes from the last step to the first; a second one always does.
    reverse: u32,
    // 0 tanh, 1 ReLU, 2 GRU, 3 GRU with the reset behind the product, 4 LSTM.
    cell: u32,
    // Words of a place of x and of y.
    x_padded: u32,
    y_padded: u32,
    // Rows of weights of a direction.
    rows: u32,
    // 1 where the memory after the last step is the result.
    gives_memory: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
// Rows of what each unit's gates, four at most, multiply: features, states; then biases of both
// products, peepholes, and for each sequence the state and the memory that it begins with.
@group(0) @binding(2) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

const LANES = 256u;
// What an invocation has of `Recurrent::MOST_HIDDEN` units.
const UNITS = 8u;

// The state; while a GRU computes its candidates, what the reset leaves of it.
var<workgroup> state: array<f32, 2048>;
// Of the units of this invocation.
var<private> own_state: array<f32, UNITS>;
var<private> memory: array<f32, UNITS>;
var<private> input_sums: array<vec4<f32>, UNITS>;
var<private> state_sums: array<vec4<f32>, UNITS>;

fn tanh_one(v: f32) -> f32 {
    return tanh_of(vec4<f32>(v)).x;
}

// One workgroup for each direction of each sequence of each image.
@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let line = flat_group(group, groups);
    if line >= params.images * params.sequences * params.directions {
        return;
    }
    let direction = line % params.directions;
    let sequence = line / params.directions % params.sequences;
    let image = line / params.directions / params.sequences;
    let hidden = params.hidden;
    let recurrent = params.features * hidden;
    let biases = recurrent + hidden * hidden;
    let first = direction * params.rows * hidden;
    let backwards = params.reverse != 0u || direction == 1u;

    for (var unit = lane; unit < hidden; unit += LANES) {
        let begin = weights[first + biases + (3u + sequence) * hidden + unit];
        state[unit] = begin.x;
        own_state[unit / LANES] = begin.x;
        memory[unit / LANES] = begin.y;
    }
    workgroupBarrier();
    for (var step = 0u; step < params.steps; step++) {
        let time = select(step, params.steps - 1u - step, backwards);
        let place = (image * params.steps + time) * params.sequences + sequence;
        let features = place * params.x_padded;
        for (var unit = lane; unit < hidden; unit += LANES) {
            let own = first + unit;
            var a = weights[own + biases];
            for (var k = 0u; k < params.features; k++) {
                a += weights[own + k * hidden] * x[features + k];
            }
            var b = weights[own + biases + hidden];
            for (var k = 0u; k < hidden; k++) {
                b += weights[own + recurrent + k * hidden] * state[k];
            }
            input_sums[unit / LANES] = a;
            state_sums[unit / LANES] = b;
        }
        workgroupBarrier();
        if params.cell == 2u {
            for (var unit = lane; unit < hidden; unit += LANES) {
                let u = unit / LANES;
                state[unit] = sigmoid(input_sums[u] + state_sums[u]).y * own_state[u];
            }
            workgroupBarrier();
            for (var unit = lane; unit < hidden; unit += LANES) {
                let own = first + unit;
                var sum = weights[own + biases + hidden].z;
                for (var k = 0u; k < hidden; k++) {
                    sum += weights[own + recurrent + k * hidden].z * state[k];
                }
                state_sums[unit / LANES].z = sum;
            }
            workgroupBarrier();
        }
        for (var unit = lane; unit < hidden; unit += LANES) {
            let u = unit / LANES;
            let a = input_sums[u];
            let b = state_sums[u];
            let sums = a + b;
            var h = 0.0;
            switch params.cell {
                case 0u: {
                    h = tanh_one(sums.x);
                }
                case 1u: {
                    h = max(sums.x, 0.0);
                }
                case 2u, 3u: {
                    let gates = sigmoid(sums);
                    let n = tanh_one(a.z + select(b.z, gates.y * b.z, params.cell == 3u));
                    h = (1.0 - gates.x) * n + gates.x * own_state[u];
                }
                default: {
                    let peepholes = weights[first + biases + 2u * hidden + unit];
                    let gates = sigmoid(sums + peepholes * memory[u]);
                    let c = gates.z * memory[u] + gates.x * tanh_one(sums.w);
                    memory[u] = c;
                    h = sigmoid(vec4<f32>(sums.y + peepholes.y * c)).x * tanh_one(c);
                }
            }
            own_state[u] = h;
            state[unit] = h;
            let channel = direction * hidden + unit;
            if params.gives_memory == 0u {
                y[place * params.y_padded + channel] = h;
            } else if step + 1u == params.steps {
                y[(image * params.sequences + sequence) * params.y_padded + channel] = memory[u];
            }
        }
        // Padded channels are 0.
        let padding = params.directions * hidden + lane;
        if direction == 0u && padding < params.y_padded {
            if params.gives_memory == 0u {
                y[place * params.y_padded + padding] = 0.0;
            } else if step + 1u == params.steps {
                y[(image * params.sequences + sequence) * params.y_padded + padding] = 0.0;
            }
        }
        workgroupBarrier();
    }
}
