//! The reader against BTF written by hand.

use super::*;

/// Writes BTF type by type.
#[derive(Default)]
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// How many types and bytes of strings the file before this one has.
    base: (u32, u32),
    count: u32,
}

impl Writer {
    fn new() -> Self {
        Self { strings: vec![0], ..Self::default() }
    }

    fn on(base: &Btf) -> Self {
        let base = (base.types.len() as u32, base.string_bytes as u32);
        Self { base, ..Self::default() }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.base.1 + self.strings.len() as u32;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.types.extend_from_slice(&word.to_ne_bytes());
        }
    }

    fn add(&mut self, name: &str, kind: u32, vlen: usize, third: u32) -> u32 {
        let name = self.name(name);
        self.words(&[name, kind << 24 | vlen as u32, third]);
        self.count += 1;
        self.base.0 + self.count
    }

    /// A structure (4) or union (5) of members: name, type, offset in bits.
    fn record(&mut self, name: &str, kind: u32, members: &[(&str, u32, u32)]) -> u32 {
        let id = self.add(name, kind, members.len(), 64);
        for (name, of, offset) in members {
            let name = self.name(name);
            self.words(&[name, *of, *offset]);
        }
        id
    }

    fn enumeration(&mut self, name: &str, values: &[(&str, u32)]) -> u32 {
        let id = self.add(name, 6, values.len(), 4);
        for (name, value) in values {
            let name = self.name(name);
            self.words(&[name, *value]);
        }
        id
    }

    /// A function prototype with nameless arguments.
    fn prototype(&mut self, returns: u32, arguments: &[u32]) -> u32 {
        let id = self.add("", 13, arguments.len(), returns);
        for argument in arguments {
            self.words(&[0, *argument]);
        }
        id
    }

    fn finish(self) -> Vec<u8> {
        let mut file = 0xeb9f_u16.to_ne_bytes().to_vec();
        file.extend_from_slice(&[1, 0]);
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        for word in [24, 0, types, types, strings] {
            file.extend_from_slice(&word.to_ne_bytes());
        }
        file.extend_from_slice(&self.types);
        file.extend_from_slice(&self.strings);
        file
    }
}

fn wanted() -> Wanted {
    Wanted::new(["sk_buff", "net_bridge_port", "kfree", "judge", "btf_trace_kfree_skb"])
}

fn small_kernel() -> Vec<u8> {
    let mut btf = Writer::new();
    let int = btf.add("int", 1, 0, 4);
    btf.words(&[32]);
    let device = btf.record("net_device", 4, &[("ifindex", int, 96)]);
    let pointer = btf.add("", 2, 0, device);
    let union = btf.record("", 5, &[("dev", pointer, 0), ("scratch", int, 0)]);
    let inner = btf.record("", 4, &[("next", pointer, 0), ("", union, 128)]);
    let common = btf.record("common", 4, &[("net", pointer, 64)]);
    let common_alias = btf.add("common_t", 8, 0, common);
    btf.record("sk_buff", 4, &[("", inner, 0), ("shared", common_alias, 256), ("len", int, 896)]);
    let reason = btf.enumeration("skb_drop_reason", &[("SKB_DROP_REASON_NETFILTER_DROP", 7)]);
    let judge = btf.prototype(reason, &[pointer, int]);
    btf.add("judge", 12, 1, judge);
    let kfree = btf.prototype(0, &[pointer]);
    btf.add("kfree", 12, 1, kfree);
    let traced = btf.prototype(0, &[pointer, pointer, pointer, reason]);
    let traced = btf.add("", 2, 0, traced);
    btf.add("btf_trace_kfree_skb", 8, 0, traced);
    btf.finish()
}

fn parse(data: Vec<u8>) -> Btf {
    Btf::parse(data, None, &wanted()).expect("well-formed")
}

#[test]
fn a_field_is_found_through_anonymous_members_and_typedefs() {
    let btf = parse(small_kernel());
    let bits = |path| btf.field("sk_buff", path).map(|field| field.bit_offset);
    assert_eq!(bits("dev"), Some(128));
    assert_eq!(bits("shared.net"), Some(320));
    assert_eq!(bits("len"), Some(896));
    assert_eq!(bits("nothing"), None);
    assert_eq!(btf.field("nothing", "dev"), None);
}

#[test]
fn a_bit_field_has_a_width() {
    let mut btf = Writer::new();
    let int = btf.add("int", 1, 0, 4);
    btf.words(&[32]);
    let id = btf.add("sk_buff", 4 | 1 << 7, 1, 8);
    let name = btf.name("pkt_type");
    btf.words(&[name, int, (3 << 24) + 1029]);
    assert_eq!(id, 2);
    let field = parse(btf.finish()).field("sk_buff", "pkt_type");
    assert_eq!(field, Some(Field { bit_offset: 1029, bit_size: Some(3) }));
}

#[test]
fn arguments_are_counted() {
    let btf = parse(small_kernel());
    assert_eq!(btf.function_arguments("judge"), Some(2));
    assert_eq!(btf.function_arguments("kfree"), Some(1));
    assert_eq!(btf.function_arguments("nothing"), None);
    assert_eq!(btf.tracepoint_arguments("kfree_skb"), Some(3));
}

#[test]
fn a_function_that_returns_a_reason_is_told_from_one_that_does_not() {
    let btf = parse(small_kernel());
    assert!(btf.returns_enum("judge", "skb_drop_reason"));
    assert!(!btf.returns_enum("judge", "other"));
    assert!(!btf.returns_enum("kfree", "skb_drop_reason"));
}

#[test]
fn enumerations_of_reasons_are_noted_without_asking() {
    let btf = parse(small_kernel());
    assert_eq!(btf.enumerations().collect::<Vec<_>>(), ["skb_drop_reason"]);
    assert_eq!(btf.enumerators("skb_drop_reason"), [("SKB_DROP_REASON_NETFILTER_DROP".to_owned(), 7)]);
}

#[test]
fn a_module_continues_the_kernels_types_and_strings() {
    let base = Arc::new(parse(small_kernel()));
    let sk_buff = base.id(Kind::Struct, "sk_buff").expect("noted");
    let mut module = Writer::on(&base);
    let pointer = module.add("", 2, 0, sk_buff);
    module.record("net_bridge_port", 4, &[("br", pointer, 0), ("dev", pointer, 64)]);
    let module = Btf::parse(module.finish(), Some(base), &wanted()).expect("well-formed");
    assert_eq!(module.field("net_bridge_port", "dev").map(Field::byte_offset), Some(8));
    assert_eq!(module.field("sk_buff", "len").map(Field::byte_offset), Some(112));
}

#[test]
fn no_truncation_panics() {
    let whole = small_kernel();
    for length in 0..whole.len() {
        let _ = Btf::parse(whole[..length].to_vec(), None, &wanted());
    }
    assert!(matches!(
        Btf::parse(whole[..10].to_vec(), None, &wanted()),
        Err(BtfError::Truncated { section: "header", needed: 24, had: 10 })
    ));
    assert!(matches!(Btf::parse(vec![0; 24], None, &wanted()), Err(BtfError::Magic { found: 0 })));
}

#[test]
fn an_unknown_kind_is_an_error() {
    let mut btf = Writer::new();
    btf.add("new", 31, 0, 0);
    assert!(matches!(Btf::parse(btf.finish(), None, &wanted()), Err(BtfError::Kind { id: 1, kind: 31 })));
}
