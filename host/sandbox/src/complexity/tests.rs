use super::*;

use super::function::Measure;

const HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// A component in a component, `depth` times; lengths of up to two bytes.
fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(HEADER.to_vec(), |inner, _| {
        let length = [(inner.len() & 0x7f) as u8 | 0x80, (inner.len() >> 7) as u8];
        [&HEADER, [4].as_slice(), &length, &inner].concat()
    })
}

/// An empty component and that many instances of it (section 5; `0 0 0`: instantiate component 0 with nothing).
fn instantiated(times: u8) -> Vec<u8> {
    let instances = [0, 0, 0].repeat(usize::from(times));
    let section = [&[5, instances.len() as u8 + 1, times], instances.as_slice()].concat();
    [&HEADER, [4, 8].as_slice(), &HEADER, &section].concat()
}

#[test]
fn components_may_nest_thirty_two_deep_and_no_deeper() {
    check("p", &nested(MAX_DEPTH)).unwrap();
    let error = check("p", &nested(MAX_DEPTH + 1)).unwrap_err().to_string();
    assert!(error.contains("nests components 33 levels deep or more, and at most 32 are taken"), "{error}");
}

#[test]
fn sixteen_components_may_be_instantiated_and_no_more() {
    check("p", &instantiated(MAX_COMPONENTS as u8)).unwrap();
    let error = check("p", &instantiated(MAX_COMPONENTS as u8 + 1)).unwrap_err().to_string();
    assert!(error.contains("instantiates components 17 times or more, and at most 16 are taken"), "{error}");
}

#[test]
fn every_stock_plugin_passes() {
    for name in crate::stock::names() {
        check(name, crate::stock::component(name).unwrap()).unwrap();
    }
}

#[test]
fn what_cannot_be_parsed_is_left_to_the_compiler() {
    check("p", b"\0asm\x0d\0\x01\0\x01\xff\xff\xff\xff\x0f").unwrap();
}

/// A component with one core module, of this text.
fn module(fields: &str) -> Vec<u8> {
    wat::parse_str(format!("(component (core module {fields}))")).unwrap()
}

fn refusal(bytes: &[u8]) -> String {
    check("p", bytes).unwrap_err().to_string()
}

#[test]
fn each_bound_on_a_function_is_obeyed_and_named_where_it_is_exceeded() {
    let function = |locals: usize, body: &str| module(&format!("(func $f (param {}) {body})", "i32 ".repeat(locals)));
    check("p", &function(1_000, "")).unwrap();
    let many_locals = |count: usize| module(&format!("(func (local {}))", "i32 ".repeat(count)));
    check("p", &many_locals(10_000)).unwrap();
    assert!(refusal(&many_locals(10_001)).contains("10001 locals (the 1. of the file), and at most 10000"));
    let many_blocks =
        |count: usize| module(&format!("(func (local {}) {})", "i32 ".repeat(10_000), "(block)".repeat(count)));
    check("p", &many_blocks(9_999)).unwrap();
    assert!(refusal(&many_blocks(10_000)).contains("100010000 locals times blocks"));
    let large = |bytes: usize| module(&format!("(func {})", "nop ".repeat(bytes - 2)));
    check("p", &large(1 << 20)).unwrap();
    assert!(refusal(&large((1 << 20) + 1)).contains("1048577 bytes"));
    // A thousand values through each of a thousand calls.
    let calls = |count: usize| {
        let values = "i32 ".repeat(1_000);
        module(&format!(
            "(func $f (param {values}) (result {values}) unreachable) (func unreachable {})",
            "call $f ".repeat(count)
        ))
    };
    check("p", &calls(500)).unwrap();
    let said = refusal(&calls(501));
    assert!(said.contains("1002000 values passed by its calls, blocks and branches (the 2. of the file)"), "{said}");
}

#[test]
fn what_each_operator_passes_is_counted() {
    let measure = |body: &str| {
        let bytes = module(&format!(
            "(type $pair (func (param i32 i32) (result i32))) (import \"a\" \"b\" (func (type $pair)))
             (table 1 funcref) (func $f (result i64 i64) {body})"
        ));
        let mut module = Module::default();
        for payload in Parser::new(0).parse_all(&bytes) {
            match payload.unwrap() {
                Payload::CodeSectionEntry(body) => return module.measure(&body).unwrap(),
                payload => module.add(&payload).unwrap(),
            }
        }
        panic!("no body");
    };
    let passes = |body: &str, values: usize, blocks: usize| {
        let Measure { values: found, blocks: found_blocks, .. } = measure(body);
        // Two results are the function's own.
        assert_eq!((found - 2, found_blocks), (values, blocks), "{body}");
    };
    passes("unreachable", 0, 0);
    passes("return", 2, 0);
    passes("call 0", 3, 0);
    passes("(call_indirect (type $pair))", 3, 0);
    passes("(block)", 0, 1);
    passes("(block (result i32) (br 0))", 1 + 2, 1);
    passes("(loop (result i32) (br 0))", 1 + 1, 1);
    passes("(loop (type $pair) (br 0))", 3 + 3, 1);
    passes("br 0", 3, 0);
    passes("if (result i32) unreachable else unreachable end", 1, 2);
    passes("(block (result i32) (br_table 0 0 1 (i32.const 0)))", 1 + 2 + 2 + 3, 1);
}

#[test]
fn what_is_counted_over_the_whole_file_is_bounded() {
    let functions = |count: usize| module(&"(func)".repeat(count));
    check("p", &functions(100_000)).unwrap();
    assert!(refusal(&functions(100_001)).contains("has 100001 functions or more, and at most 100000"));
    let data = |count: usize| module(&format!("(memory 1) {}", "(data \"\")".repeat(count)));
    assert!(refusal(&data(100_001)).contains("segments of data and elements"));
    let types = |count: usize| module(&"(rec (type (func)))".repeat(count));
    assert!(refusal(&types(50_001)).contains("has 50001 types"));
    let instances = |count: usize| {
        wat::parse_str(format!("(component (core module $m) {})", "(core instance (instantiate $m))".repeat(count)))
            .unwrap()
    };
    check("p", &instances(128)).unwrap();
    assert!(refusal(&instances(129)).contains("instantiates modules 129 times"));
}
