//! The WGSL of a kernel, and its compiled form.
//!
//! A shader says everything about itself: its bindings are read from it by wgpu, its workgroup size
//! by [`Shader::new`] while this crate is compiled. Nothing of it is declared a second time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::trusted;

/// The entry point of every shader.
pub(crate) const ENTRY_POINT: &str = "main";

/// Most workgroups in one dimension of a grid.
const MOST_GROUPS: u32 = 65_535;

/// A WGSL shader: what all share in front, its own text last.
#[derive(Debug)]
pub(crate) struct Shader {
    name: &'static str,
    parts: &'static [&'static str],
    workgroup_size: u32,
}

impl Shader {
    /// A shader with this name; the last of `parts` holds the entry point,
    /// `@compute @workgroup_size(N)`.
    ///
    /// # Panics
    /// While this crate is compiled, where the last part has no such attribute.
    pub(crate) const fn new(name: &'static str, parts: &'static [&'static str]) -> Self {
        Self { name, parts, workgroup_size: workgroup_size(parts[parts.len() - 1]) }
    }

    /// File stem, and its name in messages and profiles.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The whole WGSL text.
    pub(crate) fn wgsl(&self) -> String {
        self.parts.join("\n")
    }

    /// Invocations of a workgroup; they lie along x.
    pub(crate) const fn workgroup_size(&self) -> u32 {
        self.workgroup_size
    }

    /// Workgroups that cover `items`, one for each invocation.
    pub(crate) fn groups_for(&self, items: usize) -> [u32; 3] {
        folded(items.div_ceil(self.workgroup_size as usize))
    }
}

/// As many workgroups, at least one, in two dimensions of the grid where one is not enough. Shaders
/// get the flat index back with `flat_group` of `shared/common.wgsl`, and return early past the
/// end.
pub(crate) fn folded(groups: usize) -> [u32; 3] {
    let groups = groups.max(1) as u32;
    if groups <= MOST_GROUPS { [groups, 1, 1] } else { [MOST_GROUPS, groups.div_ceil(MOST_GROUPS), 1] }
}

/// The number in `@workgroup_size(N)`.
const fn workgroup_size(source: &str) -> u32 {
    const ATTRIBUTE: &[u8] = b"@workgroup_size(";
    let text = source.as_bytes();
    let mut at = 0;
    while at + ATTRIBUTE.len() < text.len() {
        let mut same = 0;
        while same < ATTRIBUTE.len() && text[at + same] == ATTRIBUTE[same] {
            same += 1;
        }
        if same == ATTRIBUTE.len() {
            at += same;
            let mut size = 0;
            while text[at].is_ascii_digit() {
                size = 10 * size + (text[at] - b'0') as u32;
                at += 1;
            }
            assert!(size > 0 && text[at] == b')', "a workgroup has one dimension");
            return size;
        }
        at += 1;
    }
    panic!("the shader has no entry point");
}

/// The shader in `shaders/NAME.wgsl`, behind the files of `shaders/shared/` that it names and
/// `common.wgsl`.
macro_rules! shader {
    ($name:literal $(, $shared:literal)* $(,)?) => {
        $crate::device::Shader::new($name, &[
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/shared/common.wgsl")),
            $(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/shared/", $shared, ".wgsl")),)*
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl")),
        ])
    };
}
pub(crate) use shader;

/// A compiled shader.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    /// Of group 0, as the shader declares it.
    pub(super) layout: wgpu::BindGroupLayout,
}

/// The compiled shaders of a device, by name.
#[derive(Debug)]
pub(super) struct Pipelines {
    /// Whether wgpu's runtime checks stay in.
    checked: bool,
    compiled: Mutex<HashMap<&'static str, Arc<Pipeline>>>,
}

impl Pipelines {
    pub(super) fn new(checked: bool) -> Self {
        Self { checked, compiled: Mutex::default() }
    }

    /// The shader, where it was compiled before.
    pub(super) fn get(&self, shader: &Shader) -> Option<Arc<Pipeline>> {
        self.lock().get(shader.name).cloned()
    }

    /// Keeps a shader that compiled without an error.
    pub(super) fn insert(&self, shader: &Shader, pipeline: Arc<Pipeline>) {
        self.lock().insert(shader.name, pipeline);
    }

    /// Compiles a shader. A failure is told by the device, not here.
    pub(super) fn compile(&self, device: &wgpu::Device, shader: &Shader) -> Pipeline {
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(shader.name),
            source: wgpu::ShaderSource::Wgsl(shader.wgsl().into()),
        };
        let module = if self.checked {
            device.create_shader_module(descriptor)
        } else {
            trusted::unchecked_module(device, descriptor)
        };
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(shader.name),
            // wgpu makes it of the shader's own bindings.
            layout: None,
            module: &module,
            entry_point: Some(ENTRY_POINT),
            // Kernels that use workgroup memory set it themselves.
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: self.checked,
                ..Default::default()
            },
            cache: None,
        });
        let layout = pipeline.get_bind_group_layout(0);
        Pipeline { pipeline, layout }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<&'static str, Arc<Pipeline>>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workgroup_size_is_that_of_the_text() {
        let source = "var<workgroup> a: u32;\n@compute @workgroup_size(128)\nfn main() {}";
        assert_eq!(workgroup_size(source), 128);
        assert!(std::panic::catch_unwind(|| workgroup_size("fn main() {}")).is_err());
        assert!(std::panic::catch_unwind(|| workgroup_size("@workgroup_size(8, 8) fn main() {}")).is_err());
    }

    #[test]
    fn long_grids_are_folded() {
        assert_eq!(folded(0), [1, 1, 1]);
        assert_eq!(folded(65_535), [65_535, 1, 1]);
        assert_eq!(folded(65_536), [65_535, 2, 1]);
    }
}
