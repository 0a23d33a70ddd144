//! Outputs are checked before any work starts.

use super::Bench;
use super::common::checkpoints::{Checkpoint, description_json};

#[test]
fn outputs_that_cannot_be() {
    let bench = Bench::new();
    let quantize = |out: &str| format!("quantize m.safetensors --images calib -o {out}");
    bench.fails(&quantize("no/such/out.safetensors"), 5, &["no/such"]);
    bench.fails(&format!("{} --force", quantize("m.safetensors")), 2, &["m.safetensors", "input"]);
    bench.fails(&quantize("calib"), 2, &["calib", "folder"]);
    bench.write("there.safetensors", b"precious");
    bench.fails(&quantize("there.safetensors"), 2, &["there.safetensors", "--force"]);
    assert_eq!(std::fs::read(bench.path("there.safetensors")).unwrap(), b"precious");
    for command in [
        "calibrate m.safetensors --images calib -o there.safetensors",
        "fuse m.safetensors -o there.safetensors",
        "merge m.safetensors -o there.safetensors",
    ] {
        bench.fails(command, 2, &["--force"]);
    }
    // A bad output is found before a bad input.
    bench.fails("quantize gone.safetensors --images calib -o no/such/out.safetensors", 5, &["no/such"]);
}

/// Whatever a command reads, its output may not replace it, even with --force.
#[test]
fn outputs_that_are_inputs() {
    let bench = Bench::new();
    bench.write("hub/model.safetensors", &Checkpoint::repvgg().bytes());
    bench.write("hub/config.json", description_json("repvgg", "[1, 2, 1]").as_bytes());
    bench.write("d.json", description_json("repvgg", "[1, 2, 1]").as_bytes());
    bench.run("fuse hub -o hub-fused.safetensors").ok();
    bench.run("fuse m.safetensors --describe d.json -o d-fused.safetensors").ok();
    bench.run("calibrate m.safetensors --images calib -o stats.safetensors").ok();
    for (command, output) in [
        ("fuse m.safetensors", "m.safetensors"),
        ("fuse hub", "hub/model.safetensors"),
        ("fuse hub", "hub/config.json"),
        ("fuse m.safetensors", "m.json"),
        ("fuse m.safetensors --describe d.json", "d.json"),
        ("calibrate hub --images calib", "hub/model.safetensors"),
        ("calibrate m.safetensors --images calib", "m.json"),
        ("calibrate m.safetensors --describe d.json --images calib", "d.json"),
        ("quantize hub --images calib", "hub/model.safetensors"),
        ("quantize m.safetensors --images calib", "m.json"),
        ("quantize m.safetensors --describe d.json --images calib", "d.json"),
        ("quantize m.safetensors --stats stats.safetensors", "stats.safetensors"),
        // The same file by another name.
        ("fuse m.safetensors", "hub/../m.json"),
    ] {
        bench.fails(&format!("{command} -o {output} --force"), 2, &[output, "input"]);
    }
    // An image, whatever it is called.
    std::fs::copy(bench.path("calib/00.png"), bench.path("pictures.safetensors")).unwrap();
    std::fs::create_dir(bench.path("linked")).unwrap();
    #[cfg(unix)]
    for command in [
        "calibrate m.safetensors --images linked",
        "quantize m.safetensors --stats stats.safetensors --eval linked --labels none",
    ] {
        std::os::unix::fs::symlink("../pictures.safetensors", bench.path("linked/00.png")).unwrap();
        bench.fails(&format!("{command} -o pictures.safetensors --force"), 2, &["pictures.safetensors", "input"]);
        std::fs::remove_file(bench.path("linked/00.png")).unwrap();
    }
}

#[test]
fn statistics_are_called_as_they_are_read() {
    let bench = Bench::new();
    bench.run("calibrate m.safetensors --images calib -o a.safetensors").ok();
    for (command, name) in
        [("calibrate m.safetensors --images calib", "calib/00.png"), ("merge a.safetensors", "m.pth")]
    {
        bench.fails(&format!("{command} -o {name} --force"), 2, &[name, ".safetensors"]);
    }
}

#[cfg(unix)]
#[test]
fn a_read_only_folder() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    let folder = bench.path("locked");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o555)).unwrap();
    if std::fs::write(folder.join("probe"), b"").is_ok() {
        // Root writes anywhere; /proc takes no files even from root.
        bench.fails("quantize m.safetensors --images calib -o /proc/out.safetensors", 5, &["/proc"]);
        return;
    }
    bench.fails("quantize m.safetensors --images calib -o locked/out.safetensors", 5, &["locked"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing_behind() {
    let bench = Bench::new();
    // The file size limit stands in for a full disk: writing fails in the middle.
    let script = format!(
        "ulimit -f 1; trap '' XFSZ; exec {} quantize m.safetensors --images calib -o out.safetensors --device cpu",
        env!("CARGO_BIN_EXE_repquant")
    );
    let before = bench.files();
    let output =
        std::process::Command::new("sh").arg("-c").arg(script).current_dir(bench.folder.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("out.safetensors"), "{stderr}");
    bench.assert_untouched(&before, "a full disk");
}
