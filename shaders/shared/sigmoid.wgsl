// 1 / (1 + e^-v) by e^-|v|, which cannot overflow.
fn sigmoid(v: vec4<f32>) -> vec4<f32> {
    let e = exp(-abs(v));
    return select(vec4<f32>(1.0), e, v < vec4<f32>(0.0)) / (1.0 + e);
}
