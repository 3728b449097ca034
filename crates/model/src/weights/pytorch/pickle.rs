//! The pickle of a state dict, run by a machine that can do nothing else.
//!
//! torch.save writes protocol 2: an `OrderedDict` of names and calls of `torch._utils._rebuild_tensor_v2` with a storage,
//! an offset, a shape and strides; last, the modules' versions as the dict's attributes, which nobody needs here. Each
//! opcode makes at most one value, and values are small and shared by index, so that memory is bounded by a small
//! multiple of the pickle's length, which has a limit of its own.

use std::collections::HashMap;
use std::ops::Range;

use super::super::WeightsError;
use super::super::bytes::Bytes;
use super::super::shards::Dtype;
use super::opcodes;

/// The longest pickle that is read, in bytes; a tensor takes about 150.
const LONGEST: usize = 4 << 20;
/// The most dimensions of a tensor.
const MOST_DIMENSIONS: usize = 8;

/// A tensor as the pickle gives it. Lengths count numbers, not bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored<'a> {
    pub(super) storage: Storage<'a>,
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    pub(super) strides: Vec<u64>,
}

/// A run of numbers that tensors lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Storage<'a> {
    pub(super) dtype: Dtype,
    /// Its name in the archive.
    pub(super) key: &'a str,
    pub(super) count: u64,
}

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    None,
    Bool,
    Int(i64),
    Text(&'a str),
    Callable(Callable),
    /// Indices into the machine's pools.
    Tuple(usize, usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
}

/// The globals that a state dict names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callable {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

const STORAGES: [(&str, Dtype); 10] = [
    ("FloatStorage", Dtype::F32),
    ("HalfStorage", Dtype::F16),
    ("BFloat16Storage", Dtype::BF16),
    ("DoubleStorage", Dtype::other("F64", 8)),
    ("LongStorage", Dtype::other("I64", 8)),
    ("IntStorage", Dtype::other("I32", 4)),
    ("ShortStorage", Dtype::other("I16", 2)),
    ("CharStorage", Dtype::I8),
    ("ByteStorage", Dtype::other("U8", 1)),
    ("BoolStorage", Dtype::other("BOOL", 1)),
];

impl Callable {
    fn named(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", storage) => {
                STORAGES.iter().find(|(known, _)| *known == storage).map(|(_, dtype)| Self::Storage(*dtype))
            }
            _ => None,
        }
    }
}

/// The tensors of the state dict that the pickle at `at` makes, in its order.
pub(super) fn state_dict<'a>(
    bytes: &'a Bytes,
    at: Range<usize>,
) -> Result<Vec<(&'a str, Stored<'a>)>, WeightsError> {
    if at.len() > LONGEST {
        let reason = format!("has {} bytes, at most {LONGEST} are read", at.len());
        return Err(bytes.malformed("data.pkl", reason));
    }
    let mut machine = Machine::new(bytes, &bytes[at]);
    let Value::Dict(dict) = machine.run()? else {
        return Err(bytes.malformed("data.pkl", "is not a state dict but another value"));
    };
    let mut tensors = Vec::new();
    for (name, value) in &machine.dicts[dict] {
        match (name, value) {
            (Value::Text(name), Value::Tensor(tensor)) => {
                tensors.push((*name, machine.tensors[*tensor].clone()))
            }
            (Value::Text(name), other) => {
                let reason = format!("is {}, expected a tensor", describe(other));
                return Err(bytes.malformed(format!("data.pkl: `{}`", name.escape_debug()), reason));
            }
            (other, _) => {
                let reason = format!("has {} for a name, expected a text", describe(other));
                return Err(bytes.malformed("data.pkl", reason));
            }
        }
    }
    Ok(tensors)
}

fn describe(value: &Value<'_>) -> &'static str {
    match value {
        Value::None => "None",
        Value::Bool => "a boolean",
        Value::Int(_) => "a number",
        Value::Text(_) => "a text",
        Value::Callable(_) => "a function or class",
        Value::Tuple(..) => "a tuple",
        Value::Dict(_) => "a dict",
        Value::Storage(_) => "a storage",
        Value::Tensor(_) => "a tensor",
    }
}

/// What is wrong, before the opcode is added to it.
type Step<T> = Result<T, String>;

struct Machine<'a> {
    bytes: &'a Bytes,
    pickle: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    /// The items of all tuples.
    items: Vec<Value<'a>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    storages: Vec<Storage<'a>>,
    tensors: Vec<Stored<'a>>,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a Bytes, pickle: &'a [u8]) -> Self {
        Self {
            bytes,
            pickle,
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            items: Vec::new(),
            dicts: Vec::new(),
            storages: Vec::new(),
            tensors: Vec::new(),
        }
    }

    /// Runs to the end and gives the result.
    fn run(&mut self) -> Result<Value<'a>, WeightsError> {
        loop {
            let start = self.at;
            let opcode = self.pickle.get(start).copied();
            let fault = match opcode.ok_or_else(|| "is cut short".to_owned()).and_then(|code| {
                self.at += 1;
                self.step(code)
            }) {
                Ok(None) => continue,
                Ok(Some(result)) => return Ok(result),
                Err(fault) => fault,
            };
            let named = opcode.map(|code| match opcodes::name(code) {
                Some(name) => format!(": opcode {name}"),
                None => format!(": opcode {code:#04x}"),
            });
            let field = format!("data.pkl{} at byte {start}", named.unwrap_or_default());
            return Err(self.bytes.malformed(field, fault));
        }
    }

    /// One opcode; the result at the last.
    fn step(&mut self, opcode: u8) -> Step<Option<Value<'a>>> {
        match opcode {
            // PROTO
            0x80 => {
                let [version] = self.take()?;
                if version != 2 {
                    return Err(format!("is {version}, expected 2, torch.save's"));
                }
            }
            // STOP
            b'.' => return self.pop().map(Some),
            // GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let callable = Callable::named(module, name).ok_or_else(|| {
                    let (module, name) = (module.escape_debug(), name.escape_debug());
                    format!("`{module}.{name}` is not part of a state dict and is not called")
                })?;
                self.stack.push(Value::Callable(callable));
            }
            // NONE, NEWTRUE, NEWFALSE
            b'N' => self.stack.push(Value::None),
            0x88 | 0x89 => self.stack.push(Value::Bool),
            // BININT1, BININT2, BININT, LONG1
            b'K' => {
                let [value] = self.take()?;
                self.stack.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.take()?);
                self.stack.push(Value::Int(value.into()));
            }
            b'J' => {
                let value = i32::from_le_bytes(self.take()?);
                self.stack.push(Value::Int(value.into()));
            }
            0x8a => {
                let value = self.long()?;
                self.stack.push(Value::Int(value));
            }
            // BINUNICODE
            b'X' => {
                let length = u32::from_le_bytes(self.take()?);
                let text = self.slice(length as usize)?;
                let text = std::str::from_utf8(text).map_err(|error| format!("is not UTF-8: {error}"))?;
                self.stack.push(Value::Text(text));
            }
            // BINPUT, LONG_BINPUT, BINGET, LONG_BINGET
            b'q' => {
                let [key] = self.take()?;
                self.memoise(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.take()?);
                self.memoise(key)?;
            }
            b'h' => {
                let [key] = self.take()?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.take()?);
                self.recall(key)?;
            }
            // MARK, TUPLE, EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3
            b'(' => self.marks.push(self.stack.len()),
            b't' => {
                let start = self.mark()?;
                self.tuple(start);
            }
            b')' => self.tuple(self.stack.len()),
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let start = self.stack.len().checked_sub(count).filter(|start| *start >= self.floor());
                self.tuple(start.ok_or("needs more values than there are")?);
            }
            // EMPTY_DICT, SETITEM, SETITEMS
            b'}' => self.dict(),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                let dict = self.top_dict()?;
                self.dicts[dict].push((key, value));
            }
            b'u' => {
                let start = self.mark()?;
                let pairs: Vec<Value<'a>> = self.stack.split_off(start);
                let ([], pairs) = pairs.as_rchunks() else {
                    return Err("has a key without a value".to_owned());
                };
                let dict = self.top_dict()?;
                self.dicts[dict].extend(pairs.iter().map(|[key, value]| (*key, *value)));
            }
            // BUILD: attributes of the dict. Its only one, `_metadata`, says which versions the modules had.
            b'b' => {
                let attributes = self.pop()?;
                if !matches!(attributes, Value::Dict(_) | Value::None) {
                    return Err(format!("sets {}, expected a dict of attributes", describe(&attributes)));
                }
                self.top_dict()?;
            }
            // BINPERSID
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(&id)?;
                self.storages.push(storage);
                self.stack.push(Value::Storage(self.storages.len() - 1));
            }
            // REDUCE
            b'R' => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.call(&callable, &arguments)?;
            }
            _ => return Err("is not part of a state dict".to_owned()),
        }
        Ok(None)
    }

    fn call(&mut self, callable: &Value<'a>, arguments: &Value<'a>) -> Step<()> {
        let (Value::Callable(callable), Value::Tuple(start, end)) = (callable, arguments) else {
            return Err(format!("calls {} with {}", describe(callable), describe(arguments)));
        };
        match (callable, &self.items[*start..*end]) {
            (Callable::OrderedDict, []) => self.dict(),
            // Storage, offset, shape, strides; whether it has a gradient, its hooks, and in later versions its metadata.
            (
                Callable::RebuildTensor,
                [
                    Value::Storage(storage),
                    Value::Int(offset),
                    shape,
                    strides,
                    Value::Bool,
                    Value::Dict(_),
                    ..,
                ],
            ) => {
                let tensor = Stored {
                    storage: self.storages[*storage],
                    offset: positive(offset)?,
                    shape: self.lengths(shape)?,
                    strides: self.lengths(strides)?,
                };
                self.tensors.push(tensor);
                self.stack.push(Value::Tensor(self.tensors.len() - 1));
            }
            (Callable::RebuildParameter, [tensor @ Value::Tensor(_), Value::Bool, Value::Dict(_)]) => {
                self.stack.push(*tensor);
            }
            (callable, arguments) => {
                let arguments: Vec<_> = arguments.iter().take(8).map(describe).collect();
                return Err(format!("calls {callable:?} with ({})", arguments.join(", ")));
            }
        }
        Ok(())
    }

    /// `('storage', class, key, device, count)`.
    fn storage(&self, id: &Value<'a>) -> Step<Storage<'a>> {
        if let Value::Tuple(start, end) = id
            && let [
                Value::Text("storage"),
                Value::Callable(Callable::Storage(dtype)),
                Value::Text(key),
                Value::Text(_),
                Value::Int(count),
            ] = &self.items[*start..*end]
        {
            return Ok(Storage { dtype: *dtype, key, count: positive(count)? });
        }
        Err("is not ('storage', class, key, device, count)".to_owned())
    }

    fn lengths(&self, value: &Value<'a>) -> Step<Vec<u64>> {
        let Value::Tuple(start, end) = value else {
            return Err(format!("has {} for a shape or strides", describe(value)));
        };
        if end - start > MOST_DIMENSIONS {
            return Err(format!("has {} dimensions, at most {MOST_DIMENSIONS} are read", end - start));
        }
        let lengths = self.items[*start..*end].iter().map(|value| match value {
            Value::Int(length) => positive(length),
            other => Err(format!("has {} in a shape or strides", describe(other))),
        });
        lengths.collect()
    }

    fn tuple(&mut self, start: usize) {
        let from = self.items.len();
        self.items.extend(self.stack.drain(start..));
        self.stack.push(Value::Tuple(from, self.items.len()));
    }

    fn dict(&mut self) {
        self.dicts.push(Vec::new());
        self.stack.push(Value::Dict(self.dicts.len() - 1));
    }

    /// What lies below is out of reach until the mark is taken.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Value<'a>> {
        let value = if self.stack.len() > self.floor() { self.stack.pop() } else { None };
        value.ok_or_else(|| "needs more values than there are".to_owned())
    }

    fn top(&self) -> Step<Value<'a>> {
        let value = if self.stack.len() > self.floor() { self.stack.last() } else { None };
        value.copied().ok_or_else(|| "needs a value and there is none".to_owned())
    }

    fn top_dict(&self) -> Step<usize> {
        match self.top()? {
            Value::Dict(dict) => Ok(dict),
            other => Err(format!("fills {}, expected a dict", describe(&other))),
        }
    }

    fn mark(&mut self) -> Step<usize> {
        self.marks.pop().ok_or_else(|| "has no MARK before it".to_owned())
    }

    fn memoise(&mut self, key: u32) -> Step<()> {
        let value = self.top()?;
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Step<()> {
        let value = self.memo.get(&key).ok_or_else(|| format!("asks for {key}, which was never put"))?;
        self.stack.push(*value);
        Ok(())
    }

    fn slice(&mut self, length: usize) -> Step<&'a [u8]> {
        let left = &self.pickle[self.at..];
        let slice = left.get(..length);
        let slice = slice.ok_or_else(|| format!("needs {length} bytes, {} are left", left.len()))?;
        self.at += length;
        Ok(slice)
    }

    fn take<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(N)?);
        Ok(array)
    }

    /// A text up to the end of the line.
    fn line(&mut self) -> Step<&'a str> {
        let left = &self.pickle[self.at..];
        let length = left.iter().position(|byte| *byte == b'\n').ok_or("has a line without an end")?;
        let line = self.slice(length)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|error| format!("is not UTF-8: {error}"))
    }

    /// A number of as many bytes as the first says, lowest first, in two's complement.
    fn long(&mut self) -> Step<i64> {
        let [length] = self.take()?;
        if length > 8 {
            return Err(format!("has {length} bytes, at most 8 are read"));
        }
        let number = self.slice(length.into())?;
        let fill = if number.last().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
        Ok(number.iter().rev().fold(fill, |value, byte| value << 8 | i64::from(*byte)))
    }
}

fn positive(number: &i64) -> Step<u64> {
    u64::try_from(*number).map_err(|_| format!("has the length or place {number}, expected 0 or more"))
}
