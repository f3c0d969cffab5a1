//! The part of `parking_lot` that the engine uses, over the locks of shuttle: each lock, unlock and wait is a place where
//! the scheduler may go on with another thread. Waiting never times out, so that a wake-up that is missing is a deadlock,
//! which shuttle reports.
#![forbid(unsafe_code)]

use std::fmt::{self, Debug, Formatter};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

pub use shuttle::sync::{RwLockReadGuard, RwLockWriteGuard};

/// A lock.
#[derive(Default)]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

/// What a locked lock gives.
pub struct MutexGuard<'a, T>(Option<shuttle::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().expect("a thread that panics ends the schedule")))
    }

    pub fn into_inner(self) -> T {
        self.0.into_inner().expect("a thread that panics ends the schedule")
    }
}

impl<T> Debug for Mutex<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only a wait takes it, and gives it back")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("only a wait takes it, and gives it back")
    }
}

/// A lock with many readers.
#[derive(Default)]
pub struct RwLock<T>(shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub const fn new(value: T) -> Self {
        Self(shuttle::sync::RwLock::new(value))
    }

    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().expect("a thread that panics ends the schedule")
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().expect("a thread that panics ends the schedule")
    }
}

impl<T> Debug for RwLock<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("RwLock")
    }
}

/// A place to wait.
#[derive(Default)]
pub struct Condvar(shuttle::sync::Condvar);

/// How a wait ended: never by time.
pub struct WaitTimeoutResult;

impl WaitTimeoutResult {
    pub fn timed_out(&self) -> bool {
        false
    }
}

impl Condvar {
    pub const fn new() -> Self {
        Self(shuttle::sync::Condvar::new())
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let locked = guard.0.take().expect("a guard holds its lock");
        guard.0 = Some(self.0.wait(locked).expect("a thread that panics ends the schedule"));
    }

    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> WaitTimeoutResult {
        self.wait(guard);
        WaitTimeoutResult
    }
}
