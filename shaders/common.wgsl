// Functions that all shaders share; put in front of each of them.

// The flat index of a workgroup whose grid was folded into two dimensions (`groups_for` on the host).
fn flat_group(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}
