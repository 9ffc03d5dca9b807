//! The shipped program carries `workload` inside.

fn main() {
    insula_embed::program("workload", "workload", "WORKLOAD");
}
