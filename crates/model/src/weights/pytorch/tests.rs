#![allow(clippy::unwrap_used)]
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::weights::shards::Shards;
use crate::weights::{Source as _, Weights};

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/pytorch").join(name)
}

fn numbers() -> Vec<u8> {
    std::fs::read(fixture("numbers.bin")).unwrap()
}

fn open(bytes: Vec<u8>) -> Result<Shards, WeightsError> {
    read(Bytes::held("tiny.bin", bytes)).and_then(Shards::single)
}

fn error(bytes: Vec<u8>) -> String {
    open(bytes).err().unwrap().to_string()
}

/// An archive as PyTorch writes one, of these entries.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    archive_of(entries, false)
}

/// The same; `wide` has all sizes and places in zip64 fields, as files of more than 4 GiB have.
fn archive_of(entries: &[(&str, &[u8])], wide: bool) -> Vec<u8> {
    let numbers = |widths: &[(usize, usize)]| -> Vec<u8> {
        widths.iter().flat_map(|(value, width)| value.to_le_bytes()[..*width].to_vec()).collect()
    };
    let narrow = |value: usize| if wide { (usize::MAX, 4) } else { (value, 4) };
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let (start, size, name) = (file.len(), content.len(), name.as_bytes());
        let common = |size, extra: usize| {
            numbers(&[(0, 2), (0x808, 2), (0, 2), (0, 4), (0, 4), size, size, (name.len(), 2), (extra, 2)])
        };
        file.extend([b"PK\x03\x04", &common((size, 4), 0)[..], name, content].concat());
        let extra = numbers(&[(1, 2), (24, 2), (size, 8), (size, 8), (start, 8)]);
        let extra = if wide { &extra[..] } else { &[] };
        let more = numbers(&[(0, 2), (0, 2), (0, 2), (0, 4), narrow(start)]);
        let head = [b"PK\x01\x02\0\0", &common(narrow(size), extra.len())[..], &more].concat();
        directory.extend([&head[..], name, extra].concat());
    }
    let (count, length, start) = (entries.len(), directory.len(), file.len());
    let mut end = Vec::new();
    if wide {
        let record =
            [(44, 8), (45, 2), (45, 2), (0, 4), (0, 4), (count, 8), (count, 8), (length, 8), (start, 8)];
        let locator = [(0, 4), (start + length, 8), (1, 4)];
        end.extend([b"PK\x06\x06", &numbers(&record)[..], b"PK\x06\x07", &numbers(&locator)].concat());
    }
    let counts = if wide { (usize::MAX, 2) } else { (count, 2) };
    let last = numbers(&[(0, 4), counts, counts, narrow(length), narrow(start), (0, 2)]);
    [file, directory, end, b"PK\x05\x06".to_vec(), last].concat()
}

/// An archive with this pickle and a storage `0` of four numbers of 32 bits.
fn pickled(pickle: &[u8]) -> Vec<u8> {
    archive(&[("x/data.pkl", pickle), ("x/data/0", &[0; 16])])
}

/// A state dict of one tensor `t`, given storage, offset, shape and strides; written by hand, opcode by opcode.
fn tensor(class: &str, count: u8, offset: &[u8], shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let storage = [
        b"(X\x07\0\0\0storagectorch\n",
        class.as_bytes(),
        b"\nX\x01\0\0\x000X\x03\0\0\0cpuK",
        &[count],
        b"tQ",
    ]
    .concat();
    let dict = b"ccollections\nOrderedDict\n)R";
    let call = b"ctorch._utils\n_rebuild_tensor_v2\n(";
    [
        b"\x80\x02}X\x01\0\0\0t",
        &call[..],
        &storage,
        offset,
        b"(",
        shape,
        b"t(",
        strides,
        b"t\x89",
        dict,
        b"tRs.",
    ]
    .concat()
}

#[test]
fn numbers_equal_those_of_torch() {
    let weights = Weights::open(&fixture("numbers.bin")).unwrap();
    let expected =
        candle_core::safetensors::load(fixture("expected.safetensors"), &candle_core::Device::Cpu).unwrap();
    assert_eq!(expected.len(), 12);
    let mut names: Vec<String> = expected.keys().map(|name| name["out.".len()..].to_owned()).collect();
    names.extend(["long", "mask"].map(str::to_owned));
    names.sort();
    assert_eq!(weights.names(), names);
    for (name, values) in &expected {
        let found = weights.get(values.shape().clone(), &name["out.".len()..]).unwrap();
        let [found, values] =
            [&found, values].map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        assert_eq!(found, values, "{name}");
    }
    assert_eq!(weights.shape("long").unwrap().dims(), [1, 7]);
    assert_eq!(weights.stored("long").unwrap().bytes, 56);
    // A view counts for what it shows, not for the storage that it lies in.
    assert_eq!(weights.stored("shared.strided").unwrap().bytes, 4 * 3 * 4);
    let refused = weights.get((1, 7), "long").unwrap_err().to_string();
    assert!(refused.contains("numbers.bin: tensor `long`: dtype I64 is not supported"), "{refused}");
}

#[test]
fn a_projector_beside_the_weights_adds_what_they_lack() {
    let folder = tempfile::tempdir().unwrap();
    let storage = |value: f32| value.to_le_bytes().repeat(4);
    let write = |name: &str, pickle: &[u8], value: f32| {
        let bytes = archive(&[("x/data.pkl", pickle), ("x/data/0", &storage(value))]);
        std::fs::write(folder.path().join(name), bytes).unwrap();
    };
    let all = tensor("FloatStorage", 4, b"K\0", b"K\x04", b"K\x01");
    let other = |name: u8| {
        let mut pickle = all.clone();
        let at = pickle.windows(2).position(|pair| pair == b"tc").unwrap();
        pickle[at] = name;
        pickle
    };
    write("pytorch_model.bin", &all, 1.0);
    write("mm_projector.bin", &other(b'p'), 2.0);
    let first = |name: &str| {
        let weights = Weights::open(folder.path()).unwrap();
        weights.get(4, name).unwrap().to_vec1::<f32>().unwrap()[0]
    };
    assert_eq!((first("t"), first("p")), (1.0, 2.0));
    // What both have is taken from the checkpoint.
    write("mm_projector.bin", &all, 2.0);
    assert_eq!(first("t"), 1.0);
    std::fs::write(
        folder.path().join("pytorch_model.bin.index.json"),
        r#"{"weight_map": {"t": "pytorch_model.bin", "u": "pytorch_model.bin"}}"#,
    )
    .unwrap();
    let message = Weights::open(folder.path()).unwrap_err().to_string();
    assert!(message.ends_with("pytorch_model.bin: no tensor `u`"), "{message}");
}

#[test]
fn what_is_not_a_state_dict_is_named_with_its_opcode() {
    let refused = |pickle: &[u8]| error(pickled(pickle));
    let system = refused(b"\x80\x02cos\nsystem\n(X\x02\0\0\0lstR.");
    let expected = "tiny.bin: data.pkl: opcode GLOBAL at byte 2: `os.system` is not part of a state dict and is not called";
    assert_eq!(system, expected);
    for (pickle, wanted) in [
        (&b"\x80\x04."[..], "opcode PROTO at byte 0: is 4, expected 2"),
        (b"\x80\x02]", "opcode EMPTY_LIST at byte 2: is not part of a state dict"),
        (b"\x80\x02ios\nsystem\n", "opcode INST at byte 2: is not part of a state dict"),
        (b"\x80\x02\x81", "opcode NEWOBJ at byte 2: is not part"),
        (b"\x80\x02\xff", "opcode 0xff at byte 2: is not part"),
        (b"\x80\x02", "data.pkl at byte 2: is cut short"),
        (b"\x80\x02X\xff\xff\xff\xff", "opcode BINUNICODE at byte 2: needs 4294967295 bytes, 0 are left"),
        (b"\x80\x02ctorch", "opcode GLOBAL at byte 2: has a line without an end"),
        (b"\x80\x02h\x07", "opcode BINGET at byte 2: asks for 7, which was never put"),
        (b"\x80\x02u", "opcode SETITEMS at byte 2: has no MARK before it"),
        (b"\x80\x02}(Nu", "opcode SETITEMS at byte 5: has a key without a value"),
        (b"\x80\x02N(s", "opcode SETITEM at byte 4: needs more values than there are"),
        (b"\x80\x02N(\x85", "opcode TUPLE1 at byte 4: needs more values than there are"),
        (b"\x80\x02NNNs", "opcode SETITEM at byte 5: fills None, expected a dict"),
        (b"\x80\x02)Q", "opcode BINPERSID at byte 3: is not ('storage', class, key, device, count)"),
        (
            b"\x80\x02ccollections\nOrderedDict\nN\x85R",
            "opcode REDUCE at byte 29: calls OrderedDict with (None)",
        ),
        (b"\x80\x02N)R", "opcode REDUCE at byte 4: calls None with a tuple"),
        (b"\x80\x02\x8a\x09", "opcode LONG1 at byte 2: has 9 bytes, at most 8 are read"),
        (b"\x80\x02N.", "data.pkl: is not a state dict but another value"),
        (b"\x80\x02}X\x01\0\0\0tK\x01s.", "data.pkl: `t`: is a number, expected a tensor"),
        (b"\x80\x02}NNs.", "data.pkl: has None for a name, expected a text"),
    ] {
        let message = refused(pickle);
        assert!(message.contains(wanted), "{message} lacks {wanted}");
    }
    let long = vec![b'N'; (4 << 20) + 1];
    assert!(refused(&long).contains("data.pkl: has 4194305 bytes, at most 4194304 are read"));
    let legacy = Weights::open(&fixture("legacy.bin")).unwrap_err().to_string();
    assert!(
        legacy.contains("legacy.bin: format: torch.save's from before PyTorch 1.6 is not supported"),
        "{legacy}"
    );
}

#[test]
fn tensors_outside_of_their_storage_are_named() {
    let four = |offset: &[u8], shape: &[u8], strides: &[u8]| {
        open(pickled(&tensor("FloatStorage", 4, offset, shape, strides)))
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    assert_eq!(four(b"K\0", b"K\x02K\x02", b"K\x02K\x01"), Ok(()));
    assert_eq!(four(b"K\x01", b"K\x03", b"K\x01"), Ok(()));
    assert_eq!(four(b"K\x04", b"K\0", b"K\x01"), Ok(()), "an empty tensor at the end");
    // 2^62 numbers, or one number 2^31 times over: refused before any is read.
    let huge = b"\x8a\x08\0\0\0\0\0\0\0\x40";
    for (offset, shape, strides, wanted) in [
        (
            &b"K\0"[..],
            &b"K\x05"[..],
            &b"K\x01"[..],
            "[5] with strides [1] from element 0 is not inside the storage of 4 numbers",
        ),
        (b"K\x02", b"K\x03", b"K\x01", "[3] with strides [1] from element 2 is not inside"),
        (b"K\0", b"K\x02", b"K\x04", "[2] with strides [4] from element 0 is not inside"),
        (b"K\x05", b"K\0", b"K\x01", "from element 5 is not inside"),
        (b"K\0", b"J\xff\xff\xff\x7f", b"K\0", "[2147483647] with strides [0] from element 0 is not inside"),
        (b"K\0", huge, b"K\x01", "[4611686018427387904] with strides [1]"),
        (b"K\0", b"K\x02", huge, "with strides [4611686018427387904]"),
        (huge, b"K\x01", b"K\x01", "from element 4611686018427387904 is not inside"),
        (b"K\0", b"K\x02", b"", "strides: [] for a shape of [2]"),
        (b"K\0", b"J\xff\xff\xff\xff", b"K\x01", "has the length or place -1, expected 0 or more"),
        (
            b"K\0",
            b"K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01",
            b"",
            "has 9 dimensions, at most 8 are read",
        ),
    ] {
        let message = four(offset, shape, strides).unwrap_err();
        assert!(message.contains(wanted), "{message} lacks {wanted}");
    }
    let five = error(pickled(&tensor("FloatStorage", 5, b"K\0", b"K\x01", b"K\x01")));
    assert!(five.contains("tensor `t`: storage: of 5 numbers does not fit its 16 bytes"), "{five}");
    let complex = error(pickled(&tensor("ComplexFloatStorage", 4, b"K\0", b"K\x01", b"K\x01")));
    assert!(complex.contains("`torch.ComplexFloatStorage` is not part of a state dict"), "{complex}");
}

#[test]
fn archives_of_another_kind_are_named() {
    let sound = tensor("FloatStorage", 4, b"K\0", b"K\x04", b"K\x01");
    assert!(open(pickled(&sound)).is_ok());
    let entries = |entries: &[(&str, &[u8])]| error(archive(entries));
    assert!(entries(&[("x/data.pkl", &sound)]).contains("tensor `t`: storage: `0` is not in the archive"));
    assert!(
        entries(&[("data.pkl", &sound)]).contains("zip directory: 0 entries NAME/data.pkl, expected one")
    );
    assert!(entries(&[("x/data.pkl", b""), ("y/data.pkl", b"")]).contains("2 entries NAME/data.pkl"));
    assert!(
        entries(&[("x/data.pkl", b""), ("x/data.pkl", b"")])
            .contains("zip entry `x/data.pkl`: is given twice")
    );
    assert!(
        entries(&[("x/data.pkl", b""), ("x/byteorder", b"big")])
            .contains("x/byteorder: another order of bytes")
    );
    assert!(error(b"GIF89a".to_vec()).contains("zip archive: begins with `GIF8`, expected `PK\\x03\\x04`"));
    assert!(error(Vec::new()).contains("zip archive: begins with ``"));

    let wide = archive_of(&[("x/data.pkl", &sound), ("x/data/0", &[0; 16])], true);
    assert_eq!(open(wide.clone()).unwrap().names(), ["t"]);
    for length in 0..wide.len() {
        assert!(open(wide[..length].to_vec()).is_err(), "cut at {length}");
    }
    let locator = wide.windows(4).position(|magic| magic == b"PK\x06\x07").unwrap();
    for place in [0_u64, 1 << 40, u64::MAX] {
        let mut lost = wide.clone();
        lost[locator + 8..locator + 16].copy_from_slice(&place.to_le_bytes());
        assert!(error(lost).contains("zip end record: has a locator that leads nowhere"));
    }

    let change = |offset_from_end: usize, value: &[u8]| {
        let mut bytes = pickled(&sound);
        let at = bytes.len() - offset_from_end;
        bytes[at..at + value.len()].copy_from_slice(value);
        error(bytes)
    };
    assert!(change(6, &[0xff; 4]).contains("zip end record: gives the directory"));
    // More entries than there are: found out when the first is missing.
    let mut many = pickled(&sound);
    let at = many.len() - 12;
    many[at..at + 2].copy_from_slice(&[0xff, 0xff]);
    assert!(error(many).contains("zip directory: record 2: is missing"));
    let mut compressed = pickled(&sound);
    let at = compressed.windows(4).position(|magic| magic == b"PK\x01\x02").unwrap();
    compressed[at + 10] = 8;
    assert!(error(compressed).contains("zip entry `x/data.pkl`: compression method 8"));
}

/// Opens whatever it is given and reads all there is to read.
fn exercise(bytes: Vec<u8>) {
    let length = bytes.len();
    match open(bytes) {
        Ok(shards) => {
            for name in shards.names() {
                if let Ok(tensor) = shards.read(&name) {
                    // Numbers come from the file, each at most once for the largest of its views.
                    assert!(tensor.elem_count() <= length);
                }
            }
        }
        Err(error) => assert!(error.to_string().starts_with("tiny.bin: "), "{error}"),
    }
}

#[test]
fn every_cut_is_an_error() {
    let whole = numbers();
    for length in 0..whole.len() {
        assert!(open(whole[..length].to_vec()).is_err(), "cut at {length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn mutated_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = numbers();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        exercise(bytes);
    }

    // Most bytes of the file are padding and numbers: here only the pickle and the directory change.
    #[test]
    fn mutated_pickles_and_directories_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..8),
    ) {
        let mut bytes = numbers();
        let directory = bytes.windows(4).position(|magic| magic == b"PK\x01\x02").unwrap();
        let pickle = bytes.windows(2).position(|magic| magic == b"\x80\x02").unwrap();
        for (at, value, in_pickle) in changes {
            let at = if in_pickle { pickle + at.index(1500) } else { directory + at.index(bytes.len() - directory) };
            bytes[at] = value;
        }
        exercise(bytes);
    }

    #[test]
    fn random_pickles_never_panic(opcodes in prop::collection::vec(prop::sample::select(vec![
        &b"N"[..], b"(", b")", b"t", b"\x85", b"\x86", b"\x87", b"}", b"s", b"u", b"b", b"R", b"Q", b"q\0", b"h\0", b"q\x01", b"h\x01",
        b"\x88", b"K\0", b"K\x02", b"K\x04", b"J\xff\xff\xff\xff", b"X\x01\0\0\x000", b"X\x07\0\0\0storage", b"ctorch\nFloatStorage\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n", b"ccollections\nOrderedDict\n", b".",
    ]), 0..60)) {
        exercise(pickled(&[b"\x80\x02", &opcodes.concat()[..]].concat()));
    }
}
