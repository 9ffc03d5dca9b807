//! The program carries inside what becomes the first program of a guest.

fn main() {
    insula_embed::program("guest-init", "release", "GUEST_INIT");
}
