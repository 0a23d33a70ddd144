//! Each WGSL file against what the host says of it.

use std::collections::BTreeSet;

use naga::valid::{Capabilities, ValidationFlags, Validator};
use repquant::gpu::{Binding, ENTRY_POINT};
use repquant::kernels;

#[test]
fn every_shader_file_has_a_kernel() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/shaders");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|stem| stem != "common")
        .collect();
    let kernels: BTreeSet<String> = kernels::ALL.iter().map(|k| k.spec.name.to_owned()).collect();
    assert_eq!(files, kernels);
}

#[test]
fn shaders_are_valid_and_match_their_spec() {
    for kernel in kernels::ALL {
        let spec = kernel.spec;
        let text = spec.wgsl();
        let module = naga::front::wgsl::parse_str(&text)
            .unwrap_or_else(|e| panic!("{}: {}", spec.name, e.emit_to_string(&text)));
        Validator::new(ValidationFlags::all(), Capabilities::default())
            .validate(&module)
            .unwrap_or_else(|e| panic!("{}: {e:?}", spec.name));
        let entry = module.entry_points.iter().find(|e| e.name == ENTRY_POINT).expect(spec.name);
        assert_eq!(entry.workgroup_size, spec.workgroup_size, "{}", spec.name);
        let mut bindings: Vec<(u32, Binding)> = module
            .global_variables
            .iter()
            .filter_map(|(_, variable)| {
                let kind = match variable.space {
                    naga::AddressSpace::Uniform => {
                        let bytes = module.types[variable.ty].inner.size(module.to_ctx());
                        assert_eq!(bytes as usize, spec.params_bytes, "{}: parameters", spec.name);
                        Binding::Params
                    }
                    naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => {
                        Binding::ReadWrite
                    }
                    naga::AddressSpace::Storage { .. } => Binding::Read,
                    _ => return None,
                };
                let place = variable.binding.as_ref().expect(spec.name);
                assert_eq!(place.group, 0, "{}", spec.name);
                Some((place.binding, kind))
            })
            .collect();
        bindings.sort_by_key(|(index, _)| *index);
        let expected: Vec<(u32, Binding)> = (0..).zip(spec.bindings.iter().copied()).collect();
        assert_eq!(bindings, expected, "{}", spec.name);
    }
}
