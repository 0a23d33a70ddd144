//! Each WGSL file against what the host says of it, and through the translators of every interface.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;

use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::BoundsCheckPolicies;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ShaderStage, TypeInner};

use crate::device::{ENTRY_POINT, Shader};
use crate::kernels::ALL;
use crate::kernels::statistics::State;

fn parse(shader: &Shader) -> (Module, ModuleInfo) {
    let text = shader.wgsl();
    let module = naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|e| panic!("{}: {}", shader.name(), e.emit_to_string(&text)));
    let info = Validator::new(ValidationFlags::all(), Capabilities::default())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{}: {e:?}", shader.name()));
    (module, info)
}

#[test]
fn every_shader_file_has_a_kernel() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/shaders");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let kernels: BTreeSet<String> = ALL.iter().map(|entry| entry.shader.name().to_owned()).collect();
    assert_eq!(files, kernels);
}

/// The parameters are binding 0 and as large as on the host; buffers follow without a gap, which is
/// the order in which a kernel names them.
#[test]
fn shaders_are_valid_and_match_the_host() {
    for entry in ALL {
        let (name, (module, _)) = (entry.shader.name(), parse(entry.shader));
        let main = module.entry_points.iter().find(|e| e.name == ENTRY_POINT).expect(name);
        assert_eq!(main.workgroup_size, [entry.shader.workgroup_size(), 1, 1], "{name}");
        let mut bindings: Vec<u32> = Vec::new();
        for (_, variable) in module.global_variables.iter() {
            let Some(place) = &variable.binding else { continue };
            assert_eq!(place.group, 0, "{name}");
            match variable.space {
                naga::AddressSpace::Uniform => {
                    let bytes = module.types[variable.ty].inner.size(module.to_ctx());
                    assert_eq!((place.binding, bytes as usize), (0, entry.params_bytes), "{name}: parameters");
                }
                naga::AddressSpace::Storage { .. } => assert_ne!(place.binding, 0, "{name}"),
                space => panic!("{name}: a binding in {space:?}"),
            }
            bindings.push(place.binding);
        }
        bindings.sort_unstable();
        assert_eq!(bindings, (0..bindings.len() as u32).collect::<Vec<_>>(), "{name}");
    }
}

/// What variants are chosen by: the workgroup memory that a tile states is what its shader takes.
#[test]
fn tiles_state_their_workgroup_memory() {
    let tiles: Vec<_> = ALL.iter().filter_map(|entry| Some((entry.shader, entry.workgroup_bytes?))).collect();
    assert_eq!(tiles.len(), 4);
    for (shader, stated) in tiles {
        let (module, _) = parse(shader);
        let shared = module.global_variables.iter().filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup);
        let bytes: u32 = shared.map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx())).sum();
        assert_eq!(bytes, stated, "{}", shader.name());
        assert!(bytes <= 16 << 10, "{}: more than every adapter has", shader.name());
    }
}

/// Rows of storage buffers that the host fills or reads lie on the device as they do on the host.
#[test]
fn structs_in_storage_are_laid_out_as_on_the_host() {
    let state = [
        ("exponent", offset_of!(State, exponent)),
        ("min_key", offset_of!(State, min_key)),
        ("max_key", offset_of!(State, max_key)),
        ("bad_image", offset_of!(State, bad_image)),
        ("zeros", offset_of!(State, zeros)),
        ("unused0", offset_of!(State, unused)),
    ];
    // `Channel` of src/kernels/conv/int8/constants.rs: eight words.
    let channel =
        ["bias", "multiplier", "right_shift", "shift", "coarse_bias", "coarse_multiplier", "diagonal", "unused"];
    let channel: Vec<(&str, usize)> = channel.into_iter().zip((0..).step_by(4)).collect();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for entry in ALL {
        let (module, _) = parse(entry.shader);
        for (_, variable) in module.global_variables.iter() {
            let naga::AddressSpace::Storage { .. } = variable.space else { continue };
            let TypeInner::Array { base, stride, .. } = module.types[variable.ty].inner else {
                panic!("{}: a storage buffer that is no array", entry.shader.name())
            };
            let TypeInner::Struct { members, span } = &module.types[base].inner else { continue };
            let name = module.types[base].name.clone().unwrap();
            let place = format!("{}: {name}", entry.shader.name());
            let (size, expected) = match name.as_str() {
                "State" => (size_of::<State>(), state.as_slice()),
                "Channel" => (32, channel.as_slice()),
                _ => panic!("{place}: what is its size on the host?"),
            };
            assert_eq!((stride as usize, *span as usize), (size, size), "{place}");
            let own: Vec<(&str, usize)> =
                members.iter().map(|m| (m.name.as_deref().unwrap(), m.offset as usize)).take(expected.len()).collect();
            assert_eq!(own, expected, "{place}");
            *seen.entry(name).or_default() += 1;
        }
    }
    assert_eq!(seen, BTreeMap::from([("State".into(), 7), ("Channel".into(), 4)]));
}

/// What Vulkan, Metal, Direct3D 12 and OpenGL ES are given can be written, on whatever system this
/// test runs. Their own compilers come later, on the systems that have them.
#[test]
fn shaders_translate_for_every_interface() {
    for entry in ALL {
        let name = entry.shader.name();
        let (module, info) = parse(entry.shader);
        let entry = || (ShaderStage::Compute, ENTRY_POINT.to_owned());

        let spirv = spv::write_vec(&module, &info, &spv::Options::default(), None);
        assert!(!spirv.unwrap_or_else(|e| panic!("{name} in SPIR-V: {e}")).is_empty(), "{name}");

        let pipeline = msl::PipelineOptions { entry_point: Some(entry()), ..Default::default() };
        let (text, translated) = msl::write_string(&module, &info, &msl::Options::default(), &pipeline)
            .unwrap_or_else(|e| panic!("{name} in MSL: {e}"));
        for result in &translated.entry_point_names {
            result.as_ref().unwrap_or_else(|e| panic!("{name} in MSL: {e}"));
        }
        assert!(text.contains("kernel void"), "{name} in MSL:\n{text}");

        let (options, pipeline) = (hlsl::Options::default(), hlsl::PipelineOptions { entry_point: Some(entry()) });
        let mut text = String::new();
        let translated = hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(&module, &info, None)
            .unwrap_or_else(|e| panic!("{name} in HLSL: {e}"));
        for result in &translated.entry_point_names {
            result.as_ref().unwrap_or_else(|e| panic!("{name} in HLSL: {e}"));
        }
        assert!(text.contains("[numthreads("), "{name} in HLSL:\n{text}");

        // The default is the oldest that has compute shaders: OpenGL ES 3.1.
        let options = glsl::Options::default();
        let (shader_stage, entry_point) = entry();
        let pipeline = glsl::PipelineOptions { shader_stage, entry_point, multiview: None };
        let mut text = String::new();
        glsl::Writer::new(&mut text, &module, &info, &options, &pipeline, BoundsCheckPolicies::default())
            .and_then(|mut writer| writer.write())
            .unwrap_or_else(|e| panic!("{name} in GLSL: {e}"));
        assert!(text.contains("#version 310 es"), "{name} in GLSL:\n{text}");
    }
}
