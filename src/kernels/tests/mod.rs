//! Every kernel on every device, every shader through every translator, and what is refused.

mod refusals;
mod shaders;
mod timing;
mod twins;
