//! Thrift's compact protocol, as far as the metadata of Parquet needs it: a struct is taken apart into its fields.

/// Structs and lists may nest so deep; those of Parquet nest half as deep.
const DEPTH: usize = 16;
/// Fields that are read have smaller numbers.
const NUMBERS: usize = 12;

/// A place in some bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thrift<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
}

/// The value of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Bool(bool),
    Int(i64),
    Bytes(&'a [u8]),
    /// Where its fields begin.
    Struct(Thrift<'a>),
    /// How many elements, of which kind, and where they begin. Each takes a byte at least.
    List(usize, u8, Thrift<'a>),
    /// Of a kind that Parquet's metadata has no use for.
    Other,
}

/// The fields of a struct by their numbers, those that somebody asks for: a byte may be a field, so what is kept is no
/// more for a struct of millions of them.
#[derive(Debug)]
pub(super) struct Fields<'a>([Option<Value<'a>>; NUMBERS]);

impl<'a> Thrift<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The fields of the struct that begins here; goes behind it. `None` where the bytes are none.
    pub(super) fn fields(&mut self) -> Option<Fields<'a>> {
        let mut fields = Fields([None; NUMBERS]);
        self.walk(DEPTH, &mut |number, value| {
            let field = usize::try_from(number).ok().and_then(|number| fields.0.get_mut(number));
            if let Some(field) = field {
                field.get_or_insert(value);
            }
        })?;
        Some(fields)
    }

    /// Goes behind the struct that begins here; `each` gets its fields in their order.
    fn walk(&mut self, depth: usize, each: &mut dyn FnMut(i64, Value<'a>)) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let mut number = 0_i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            let step = i64::from(head >> 4);
            number = if step == 0 { zigzag(self.varint()?) } else { number.checked_add(step)? };
            each(number, self.value(head & 15, depth)?);
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Option<Value<'a>> {
        Some(match kind {
            1 | 2 => Value::Bool(kind == 1),
            3 => Value::Int(i64::from(self.byte()?.cast_signed())),
            4..=6 => Value::Int(zigzag(self.varint()?)),
            7 => self.skip(8, Value::Other)?,
            8 => {
                let len = usize::try_from(self.varint()?).ok()?;
                let begin = self.at;
                self.skip(len, ())?;
                Value::Bytes(self.bytes.get(begin..self.at)?)
            }
            9 | 10 => {
                let head = self.byte()?;
                let count =
                    if head >> 4 == 15 { usize::try_from(self.varint()?).ok()? } else { usize::from(head >> 4) };
                let begin = *self;
                if count > self.bytes.len() - self.at {
                    return None;
                }
                let depth = depth.checked_sub(1)?;
                for _ in 0..count {
                    self.element(head & 15, depth)?;
                }
                Value::List(count, head & 15, begin)
            }
            12 => {
                let begin = *self;
                self.walk(depth, &mut |_, _| {})?;
                Value::Struct(begin)
            }
            // Maps and the like stand nowhere in what is read.
            _ => return None,
        })
    }

    /// An element of a list.
    fn element(&mut self, kind: u8, depth: usize) -> Option<Value<'a>> {
        // In lists a truth value is a byte.
        if matches!(kind, 1 | 2) { self.byte().map(|byte| Value::Bool(byte == 1)) } else { self.value(kind, depth) }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn skip<T>(&mut self, len: usize, value: T) -> Option<T> {
        self.at = self.at.checked_add(len).filter(|&at| at <= self.bytes.len())?;
        Some(value)
    }
}

/// A number whose sign is its lowest bit.
pub(super) fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

impl<'a> Fields<'a> {
    fn get(&self, number: i64) -> Option<Value<'a>> {
        usize::try_from(number).ok().and_then(|number| *self.0.get(number)?)
    }

    pub(super) fn int(&self, number: i64) -> Option<i64> {
        if let Some(Value::Int(int)) = self.get(number) { Some(int) } else { None }
    }

    /// A length or count: not negative.
    pub(super) fn size(&self, number: i64) -> Option<usize> {
        self.int(number).and_then(|int| usize::try_from(int).ok())
    }

    pub(super) fn bool(&self, number: i64) -> Option<bool> {
        if let Some(Value::Bool(is)) = self.get(number) { Some(is) } else { None }
    }

    pub(super) fn bytes(&self, number: i64) -> Option<&'a [u8]> {
        if let Some(Value::Bytes(bytes)) = self.get(number) { Some(bytes) } else { None }
    }

    pub(super) fn fields(&self, number: i64) -> Option<Fields<'a>> {
        if let Some(Value::Struct(mut begin)) = self.get(number) { begin.fields() } else { None }
    }

    /// The structs of a list; none where there is no such list.
    pub(super) fn structs(&self, number: i64) -> impl Iterator<Item = Fields<'a>> {
        let (count, mut at) = match self.get(number) {
            Some(Value::List(count, 12, begin)) => (count, begin),
            _ => (0, Thrift::new(&[], 0)),
        };
        (0..count).map_while(move |_| at.fields())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_struct_does_not_grow_with_its_fields() {
        // Nothing on the heap, and little besides.
        assert!(!std::mem::needs_drop::<Fields<'_>>() && size_of::<Fields<'_>>() <= 1024);
        // A number in field 1, then a truth value a byte, whose numbers rise, and field 3 once more.
        let mut bytes = vec![0x15, 10];
        bytes.resize(1 << 20, 0x11);
        bytes.extend([0x05, 6, 14, 0]);
        let mut at = Thrift::new(&bytes, 0);
        let fields = at.fields().unwrap();
        assert_eq!(at.at, bytes.len());
        assert_eq!((fields.int(1), fields.bool(2), fields.bool(3)), (Some(5), Some(true), Some(true)));
        assert_eq!((fields.bool(12), fields.bool(-1), fields.int(3)), (None, None, None));
    }
}
