//! The one place with `unsafe`: shader modules without runtime checks.

/// Makes a shader module without bounds checks and loop bounding, which cost up to a third of a
/// matrix product.
pub(super) fn unchecked_module(
    device: &wgpu::Device,
    descriptor: wgpu::ShaderModuleDescriptor<'_>,
) -> wgpu::ShaderModule {
    // SAFETY: only this crate's own shaders come here (`Shader` has no public constructor), and
    // only `Recorder::run` dispatches them. It has checked the arguments against each other and
    // every buffer against the words that the kernel says it touches (`kernel.rs`); from those
    // arguments every index follows, the places of a list included, and every loop is bounded by
    // them. The suite runs all kernels with the checks on as well.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}
