//! How values lie in a message: little-endian, one after the other, without gaps.
//!
//! Both ends are the same program, so there is nothing to negotiate; but each takes the other for hostile. Reading therefore allocates
//! nothing, looks at each byte at most twice, and accepts only what writing could have made.

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A message being read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// From its start.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    /// The next value.
    ///
    /// # Errors
    /// There is none of this kind.
    pub fn get<T: Wire<'a>>(&mut self) -> Result<T, Malformed> {
        T::get(self)
    }

    /// So many bytes.
    ///
    /// # Errors
    /// There aren't as many left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The end, which must be here.
    ///
    /// # Errors
    /// Something follows.
    pub fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }
}

/// A message being written into a buffer. What doesn't fit is noticed at the end.
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    length: usize,
    overflow: bool,
}

impl<'b> Writer<'b> {
    /// From the buffer's start.
    pub fn new(buffer: &'b mut [u8]) -> Writer<'b> {
        Writer { buffer, length: 0, overflow: false }
    }

    /// Adds a value.
    pub fn put<'a>(&mut self, value: &impl Wire<'a>) {
        value.put(self);
    }

    /// Adds bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        match self.buffer.get_mut(self.length..).and_then(|rest| rest.get_mut(..bytes.len())) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.overflow = true,
        }
    }

    /// Adds [`Bytes`] that `fill` puts where they belong, at most `most` of them; it says how many.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn fill<E>(&mut self, most: usize, fill: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<(), E> {
        let start = self.length;
        self.put(&0_u32);
        let rest = self.buffer.get_mut(self.length..).unwrap_or_default();
        let most = most.min(rest.len());
        let count = fill(&mut rest[..most])?.min(most);
        self.length = start;
        self.put(&(count as u32));
        self.length += count;
        Ok(())
    }

    /// Forgets all that was added.
    pub fn clear(&mut self) {
        (self.length, self.overflow) = (0, false);
    }

    /// How many bytes the message has, or none if the buffer is too small for it.
    pub fn finish(self) -> Option<usize> {
        (!self.overflow).then_some(self.length)
    }
}

/// A value that can be in a message.
pub trait Wire<'a>: Sized {
    /// Adds it.
    fn put(&self, out: &mut Writer<'_>);

    /// Takes it off.
    ///
    /// # Errors
    /// What comes next is no such value.
    fn get(input: &mut Reader<'a>) -> Result<Self, Malformed>;
}

macro_rules! numbers {
    ($($kind:ty)*) => {$(
        impl Wire<'_> for $kind {
            fn put(&self, out: &mut Writer<'_>) {
                out.bytes(&self.to_le_bytes());
            }

            fn get(input: &mut Reader<'_>) -> Result<Self, Malformed> {
                Ok(Self::from_le_bytes(input.array()?))
            }
        }
    )*};
}

numbers! { u8 u16 u32 u64 i64 }

impl Wire<'_> for bool {
    fn put(&self, out: &mut Writer<'_>) {
        out.put(&u8::from(*self));
    }

    fn get(input: &mut Reader<'_>) -> Result<bool, Malformed> {
        match input.get::<u8>()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Option<T> {
    fn put(&self, out: &mut Writer<'_>) {
        out.put(&self.is_some());
        if let Some(value) = self {
            out.put(value);
        }
    }

    fn get(input: &mut Reader<'a>) -> Result<Self, Malformed> {
        if input.get()? { input.get().map(Some) } else { Ok(None) }
    }
}

/// Bytes of any kind: at most what a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Wire<'a> for Bytes<'a> {
    fn put(&self, out: &mut Writer<'_>) {
        out.put(&(self.0.len() as u32));
        out.bytes(self.0);
    }

    fn get(input: &mut Reader<'a>) -> Result<Self, Malformed> {
        let length: u32 = input.get()?;
        input.take(length as usize).map(Bytes)
    }
}

/// At most 255 values.
#[derive(Clone, Copy, Debug)]
pub enum List<'a, T> {
    /// To be written.
    Values(&'a [T]),
    /// Read: all of them are known to be there.
    Read(u8, Reader<'a>),
}

impl<'a, T: Wire<'a> + Copy> List<'a, T> {
    /// The most that a list holds.
    pub const MOST: usize = u8::MAX as usize;

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<'a, T> {
        let (values, mut left, mut reader) = match *self {
            List::Values(values) => (values, 0, Reader(&[])),
            List::Read(count, reader) => (&[][..], count, reader),
        };
        let read = std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            reader.get().ok()
        });
        values.iter().copied().chain(read)
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            List::Values(values) => values.len(),
            List::Read(count, _) => usize::from(*count),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, T: Wire<'a> + Copy> Wire<'a> for List<'a, T> {
    fn put(&self, out: &mut Writer<'_>) {
        match u8::try_from(self.len()) {
            Ok(count) => out.put(&count),
            Err(_) => out.overflow = true,
        }
        for value in self.iter() {
            out.put(&value);
        }
    }

    fn get(input: &mut Reader<'a>) -> Result<Self, Malformed> {
        let count: u8 = input.get()?;
        let start = *input;
        for _ in 0..count {
            input.get::<T>()?;
        }
        Ok(List::Read(count, start))
    }
}

/// Two lists are equal if their values are.
impl<'a, T: Wire<'a> + Copy + PartialEq> PartialEq for List<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// A structure whose fields lie in a message in their order.
macro_rules! record {
    ($(#[$about:meta])* pub struct $name:ident $(<$life:lifetime>)? { $($(#[$doc:meta])* pub $field:ident: $kind:ty,)* }) => {
        $(#[$about])*
        pub struct $name $(<$life>)? { $($(#[$doc])* pub $field: $kind,)* }
        $crate::wire::record!(@impl $name, ($($life)?), $($field)*);
    };
    (@impl $name:ident, (), $($field:ident)*) => {
        impl $crate::wire::Wire<'_> for $name { $crate::wire::record!(@body '_, $($field)*); }
    };
    (@impl $name:ident, ($life:lifetime), $($field:ident)*) => {
        impl<$life> $crate::wire::Wire<$life> for $name<$life> { $crate::wire::record!(@body $life, $($field)*); }
    };
    (@body $life:lifetime, $($field:ident)*) => {
        fn put(&self, out: &mut $crate::wire::Writer<'_>) {
            $(out.put(&self.$field);)*
        }

        fn get(input: &mut $crate::wire::Reader<$life>) -> Result<Self, $crate::wire::Malformed> {
            Ok(Self { $($field: input.get()?,)* })
        }
    };
}

/// An enumeration that lies in a message as the number of a variant, and the variant's fields in their order.
macro_rules! choice {
    ($(#[$about:meta])* pub enum $name:ident<$life:lifetime> {
        $($(#[$doc:meta])* $number:literal => $variant:ident { $($(#[$fdoc:meta])* $field:ident: $kind:ty,)* },)*
    }) => {
        $(#[$about])*
        pub enum $name<$life> { $($(#[$doc])* $variant { $($(#[$fdoc])* $field: $kind,)* },)* }

        impl<$life> $crate::wire::Wire<$life> for $name<$life> {
            fn put(&self, out: &mut $crate::wire::Writer<'_>) {
                match self {
                    $(Self::$variant { $($field,)* } => {
                        out.put(&($number as u8));
                        $(out.put($field);)*
                    })*
                }
            }

            fn get(input: &mut $crate::wire::Reader<$life>) -> Result<Self, $crate::wire::Malformed> {
                match input.get::<u8>()? {
                    $($number => Ok(Self::$variant { $($field: input.get()?,)* }),)*
                    _ => Err($crate::wire::Malformed),
                }
            }
        }
    };
}

pub(crate) use {choice, record};
