// Lines of an activation: `Lines` in src/kernels/core/lines.rs.

struct Lines {
    // Lines of the batch, and how many begin side by side.
    lines: u32,
    inner: u32,
    // Values of a line, words between them, and words from one group of lines to the next.
    count: u32,
    step: u32,
    outer_step: u32,
    // Channels and words of a pixel.
    channels: u32,
    padded: u32,
    // Whether a line is a pixel's channels.
    along_channels: u32,
}

// The first word of line i.
fn first_word(lines: Lines, i: u32) -> u32 {
    return i / lines.inner * lines.outer_step + i % lines.inner;
}

// Whether line i is one of a padded channel.
fn is_padding(lines: Lines, i: u32) -> bool {
    return lines.along_channels == 0u && i % lines.inner % lines.padded >= lines.channels;
}

// Sums are those of runs of so many values, added up: a value beside many small ones would swallow
// them one by one.
const RUN: u32 = 64u;
