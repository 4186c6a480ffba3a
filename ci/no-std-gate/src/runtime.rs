//! The little that a program needs when there is no operating-system library under it: an entry point, an
//! allocator, a panic handler, the memory functions that the compiler calls, and exit.
//!
//! Unsafe code is unavoidable here, which is why this crate is not part of the workspace.

use core::alloc::{GlobalAlloc, Layout};
use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call gate_main", "ud2");

#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x30, xzr", "bl gate_main", "brk #0");

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the gate knows how to start and to exit on x86_64 and aarch64 Linux only");

#[unsafe(no_mangle)]
extern "C" fn gate_main() -> ! {
    exit(u8::from(!crate::decides()))
}

/// Ends the process.
fn exit(code: u8) -> ! {
    // SAFETY: the exit system call takes one integer and does not return.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("syscall", in("rax") 60, in("rdi") u64::from(code), options(noreturn, nostack));
        #[cfg(target_arch = "aarch64")]
        asm!("svc 0", in("x8") 93, in("x0") u64::from(code), options(noreturn, nostack));
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(101)
}

/// Never called, as a panic ends the program, but the precompiled `alloc` names it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Hands out memory once and never takes it back.
struct Bump {
    memory: UnsafeCell<[u8; Bump::SIZE]>,
    used: AtomicUsize,
}

impl Bump {
    const SIZE: usize = 8 << 20;
}

// SAFETY: every byte of `memory` is handed out at most once, because `used` only moves by an atomic update.
unsafe impl Sync for Bump {}

// SAFETY: the block lies inside `memory`, is aligned as asked, and is never handed out again.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.memory.get().cast::<u8>();
        let place = |used: usize| {
            let padding = base.wrapping_add(used).align_offset(layout.align());
            used.checked_add(padding)
        };
        let next = |used| place(used)?.checked_add(layout.size()).filter(|end| *end <= Self::SIZE);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(used) => place(used).map_or(ptr::null_mut(), |start| base.wrapping_add(start)),
            Err(_) => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static MEMORY: Bump = Bump { memory: UnsafeCell::new([0; Bump::SIZE]), used: AtomicUsize::new(0) };

// The memory functions copy by volatile accesses, or the compiler would turn each loop into a call to itself.

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    for i in 0..count {
        // SAFETY: the caller promises `count` readable bytes and `count` writable bytes.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize) <= (from as usize) {
        // SAFETY: as promised by the caller; forwards is right when the target lies below.
        return unsafe { memcpy(to, from, count) };
    }
    for i in (0..count).rev() {
        // SAFETY: the caller promises `count` readable bytes and `count` writable bytes.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    for i in 0..count {
        // SAFETY: the caller promises `count` writable bytes. The cast keeps the low byte, as C does.
        unsafe { to.add(i).write_volatile(byte as u8) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    for i in 0..count {
        // SAFETY: the caller promises `count` readable bytes on both sides.
        let (x, y) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, count) }
}
