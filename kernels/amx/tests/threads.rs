//! Permission belongs to the process, configuration to the thread: a test in a process of its own, so that nothing has asked before.

use std::sync::mpsc;

use trit_conformance::Case;
use trit_kernel::{Kernel, LayoutId};

#[test]
fn threads_that_are_older_than_the_permission_multiply() {
    let (give, take) = mpsc::channel::<&'static dyn Kernel>();
    let older = std::thread::spawn(move || {
        let kernel = take.recv();
        kernel.is_ok_and(|kernel| {
            check(kernel);
            true
        })
    });
    let Some(kernel) = trit_conformance::open(&trit_kernel_amx::TILE_ENTRY) else {
        drop(give);
        assert!(!older.join().unwrap(), "there is nothing to multiply with");
        return;
    };
    let kernel: &'static dyn Kernel = Box::leak(kernel);
    give.send(kernel).unwrap();
    // Two more threads at the same time, and this one.
    std::thread::scope(|scope| {
        scope.spawn(|| check(kernel));
        scope.spawn(|| check(kernel));
        check(kernel);
    });
    assert!(older.join().unwrap());
}

fn check(kernel: &dyn Kernel) {
    for tokens in [33, 16, 50] {
        Case::new(LayoutId::R16, 70, 1500, tokens).assert(kernel);
    }
}
