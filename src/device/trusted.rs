//! The one place with `unsafe`: shader modules without runtime checks.

/// Makes a shader module without bounds checks and loop bounding, which cost up to a third of a matrix product.
pub(super) fn unchecked_module(
    device: &wgpu::Device,
    descriptor: wgpu::ShaderModuleDescriptor<'_>,
) -> wgpu::ShaderModule {
    // SAFETY: only this crate's own shaders come here. Every index they form stays below the sizes in their parameters,
    // which the host checks against the buffers bound (`Recorder::run` and each kernel's `dispatch`), and every loop
    // is bounded by those parameters; the suite runs all kernels with the checks on as well.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}
