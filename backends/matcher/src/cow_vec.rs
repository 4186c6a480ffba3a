//! An array in pages that copies share until one of them writes.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::array;
use core::fmt;

/// Entries under dense indices, `N` to a page. A clone costs one reference count; a write copies the directory and
/// one page, unless nobody shares them. Entries that were never written hold the default.
#[derive(Clone)]
pub(crate) struct CowVec<T, const N: usize> {
    pages: Arc<[Arc<[T; N]>]>,
}

impl<T: Clone + Default, const N: usize> CowVec<T, N> {
    pub(crate) fn new() -> Self {
        Self { pages: Arc::from([]) }
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        let page = self.pages.get(index.checked_div(N)?)?;
        page.get(index.checked_rem(N)?)
    }

    /// Makes room for `len` entries.
    pub(crate) fn reserve(&mut self, len: usize) {
        let pages = len.div_ceil(N);
        if pages > self.pages.len() {
            let vacant: Arc<[T; N]> = Arc::new(array::from_fn(|_| T::default()));
            let mut all: Vec<_> = self.pages.iter().cloned().collect();
            all.resize(pages, vacant);
            self.pages = Arc::from(all);
        }
    }

    /// The entry at `index`, to be changed; grows as far as needed.
    pub(crate) fn entry(&mut self, index: usize) -> Option<&mut T> {
        self.reserve(index.checked_add(1)?);
        let page = Arc::make_mut(&mut self.pages).get_mut(index.checked_div(N)?)?;
        Arc::make_mut(page).get_mut(index.checked_rem(N)?)
    }

    pub(crate) fn set(&mut self, index: usize, value: T) {
        if let Some(entry) = self.entry(index) {
            *entry = value;
        }
    }

    /// Every entry, vacant ones too, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter())
    }
}

impl<T, const N: usize> fmt::Debug for CowVec<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CowVec").field("pages", &self.pages.len()).finish_non_exhaustive()
    }
}

/// A table number as an index.
#[inline]
pub(crate) fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
