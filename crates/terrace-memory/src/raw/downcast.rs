//! A shared value with its type back, without waiting for its count.
//!
//! [`Arc::downcast`] takes a reference that is already counted, so its look at the type comes after an atomic addition, and
//! no processor lets a later load pass that. Here the type is looked at first, at the reference that stays where it is.

use std::any::Any;
use std::sync::Arc;

/// One more reference to a value of type `V`; `None` if it has another type.
///
/// # Cost
/// One comparison of types and one increment of the reference count. Allocates nothing.
///
/// # Examples
/// ```
/// use std::any::Any;
/// use std::sync::Arc;
/// use terrace_memory::downcast_clone;
///
/// let value: Arc<dyn Any + Send + Sync> = Arc::new(7_u32);
/// assert_eq!(downcast_clone::<u32>(&value).as_deref(), Some(&7));
/// assert_eq!(downcast_clone::<u64>(&value), None);
/// ```
#[inline]
pub fn downcast_clone<V: Any + Send + Sync>(value: &Arc<dyn Any + Send + Sync>) -> Option<Arc<V>> {
    if !value.is::<V>() {
        return None;
    }
    let pointer = Arc::into_raw(Arc::clone(value)).cast::<V>();
    // SAFETY: the pointer came from `Arc::into_raw` and is given back once. The value behind it is a `V`, as was just seen, and a
    // pointer to it is all that `into_raw` of an `Arc<V>` would have given: this is what `Arc::downcast` does.
    Some(unsafe { Arc::from_raw(pointer) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(64))]
    #[derive(Debug, PartialEq)]
    struct Wide(u8);

    #[test]
    fn every_reference_is_counted_and_given_back_whatever_the_alignment() {
        let value: Arc<dyn Any + Send + Sync> = Arc::new(Wide(3));
        let held = downcast_clone::<Wide>(&value).expect("its type");
        assert_eq!((&*held, Arc::strong_count(&held)), (&Wide(3), 2));
        assert!(downcast_clone::<u8>(&value).is_none());
        assert_eq!(Arc::strong_count(&value), 2);
        drop(value);
        assert_eq!(Arc::into_inner(held), Some(Wide(3)));
    }

    #[test]
    fn a_value_without_size_comes_back_too() {
        let value: Arc<dyn Any + Send + Sync> = Arc::new(());
        let held = downcast_clone::<()>(&value).expect("its type");
        assert_eq!(Arc::strong_count(&value), 2);
        drop(held);
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
