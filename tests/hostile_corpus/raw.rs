//! Components that no compiler makes: a classifier in the component model's text format, with holes for what is wrong.
//!
//! With the default for every hole it behaves as the hostile classifier that is configured to do nothing.

/// The holes. Core code stands in folded form; `$answer` is where the honest answer stands when `on_poison` runs:
/// 4 bytes that say `ok`, then address and length of labels, scores and rejections.
pub struct Raw {
    /// Of the component: `(import …)` and `(core func $host …)`.
    pub imports: String,
    /// The core type of `$host`, where there is one.
    pub host: &'static str,
    /// What allocates memory for arguments: `(param $old i32) (param $was i32) (param $align i32) (param $size i32)`.
    pub realloc: &'static str,
    /// The result of `open` is at 128.
    pub open: &'static str,
    pub on_poison: &'static str,
    /// More fields of the core module.
    pub fields: String,
    /// More of the component.
    pub more: String,
    /// The rest of the lift of `classify`.
    pub lift: &'static str,
    /// What is exported.
    pub export: &'static str,
}

pub const SAY: &str = "(param i32 i32 i32)";

impl Default for Raw {
    fn default() -> Self {
        Self {
            imports: String::new(),
            host: "",
            realloc: "(call $bump (local.get $size) (local.get $align))",
            open: "(i32.const 128)",
            on_poison: "",
            fields: String::new(),
            more: String::new(),
            lift: "",
            export: r#"(instance $api (export "open" (func $open)) (export "classify" (func $classify)))
                (export "sandpiper:plugin/classifier@0.1.0" (instance $api))"#,
        }
    }
}

impl Raw {
    /// The component.
    pub fn encode(&self) -> Vec<u8> {
        let text = self.text();
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// With a function of the host's: the component's import, its name there, and its core type.
    pub fn importing(import: &str, lower: &str, host: &'static str) -> Self {
        let imports = format!(
            r#"{import} (core func $host (canon lower (func {lower}) (memory $libc "memory") (realloc (func $libc "cabi_realloc"))))"#
        );
        Self { imports, host, ..Self::default() }
    }

    /// With `log`, as `(call $host (level) (address) (length))`.
    pub fn logging() -> Self {
        let import = r#"(import "sandpiper:plugin/log@0.1.0" (instance $log
            (type $level' (enum "debug" "info" "warn" "error"))
            (export "level" (type $level (eq $level')))
            (export "log" (func (param "level" $level) (param "message" string)))))"#;
        Self::importing(import, r#"$log "log""#, SAY)
    }

    fn text(&self) -> String {
        let Self { imports, host, realloc, open, on_poison, fields, more, lift, export } = self;
        let (import, with) = match host.is_empty() {
            true => (String::new(), ""),
            false => (
                format!(r#"(import "host" "host" (func $host {host}))"#),
                r#"(with "host" (instance (export "host" (func $host))))"#,
            ),
        };
        let column = words(&[64, 1, 0, 0, 0]);
        let classes = words(&[65, 1, 66, 1]);
        let signature = words(&[0, 72, 1, 96, 2]);
        let poison = crate::harness::POISON_VALUE;
        format!(
            r#"(component
  (core module $libc
    (memory (export "memory") 16)
    (global $top (mut i32) (i32.const 65536))
    (func $bump (param $size i32) (param $align i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and
        (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
      (global.set $top (i32.add (local.get $at) (local.get $size)))
      (local.get $at))
    (func (export "cabi_realloc") (param $old i32) (param $was i32) (param $align i32) (param $size i32) (result i32)
      {realloc})
  )
  (core instance $libc (instantiate $libc))
  {imports}
  (core module $main
    (import "libc" "memory" (memory 16))
    {import}
    (func $honest (param $values i32) (param $rows i32) (result i32)
      (local $row i32) (local $label i32)
      (block $done (loop $next
        (br_if $done (i32.ge_u (local.get $row) (local.get $rows)))
        (local.set $label (f32.gt
          (f32.load (i32.add (local.get $values) (i32.shl (local.get $row) (i32.const 2))))
          (f32.const 0)))
        (i32.store offset=8192 (i32.shl (local.get $row) (i32.const 2)) (local.get $label))
        (f32.store offset=16384 (i32.shl (local.get $row) (i32.const 3)) (f32.convert_i32_u (i32.eqz (local.get $label))))
        (f32.store offset=16388 (i32.shl (local.get $row) (i32.const 3)) (f32.convert_i32_u (local.get $label)))
        (local.set $row (i32.add (local.get $row) (i32.const 1)))
        (br $next)))
      (i32.store (i32.const 256) (i32.const 0))
      (i32.store (i32.const 260) (i32.const 8192))
      (i32.store (i32.const 264) (local.get $rows))
      (i32.store (i32.const 268) (i32.const 16384))
      (i32.store (i32.const 272) (i32.shl (local.get $rows) (i32.const 1)))
      (i32.store (i32.const 276) (i32.const 0))
      (i32.store (i32.const 280) (i32.const 0))
      (i32.const 256))
    (func $poisoned (param $values i32) (param $rows i32) (result i32)
      (local $row i32)
      (block $done (loop $next
        (br_if $done (i32.ge_u (local.get $row) (local.get $rows)))
        (if (f32.eq
            (f32.load (i32.add (local.get $values) (i32.shl (local.get $row) (i32.const 2))))
            (f32.const {poison}))
          (then (return (i32.const 1))))
        (local.set $row (i32.add (local.get $row) (i32.const 1)))
        (br $next)))
      (i32.const 0))
    (func (export "open") (param $config i32) (param $length i32) (param $model i32) (param $bytes i32) (result i32)
      {open})
    (func (export "classify") (param $columns i32) (param $values i32) (param $rows i32) (result i32)
      (local $answer i32) (local $at i32)
      (local.set $answer (call $honest (local.get $values) (local.get $rows)))
      (if (call $poisoned (local.get $values) (local.get $rows)) (then {on_poison}))
      (local.get $answer))
    {fields}
    (data (i32.const 64) "xab")
    (data (i32.const 72) "{column}")
    (data (i32.const 96) "{classes}")
    (data (i32.const 128) "{signature}")
  )
  (core instance $main (instantiate $main (with "libc" (instance $libc)) {with}))
  (type $kind' (variant (case "number") (case "category" (list string))))
  (export $kind "kind" (type $kind'))
  (type $column' (record (field "name" string) (field "kind" $kind)))
  (export $column "column" (type $column'))
  (type $signature' (record (field "columns" (list $column)) (field "classes" (list string))))
  (export $signature "signature" (type $signature'))
  (type $matrix' (record (field "columns" u32) (field "values" (list f32))))
  (export $matrix "matrix" (type $matrix'))
  (type $rejection' (record (field "row" u32) (field "code" string) (field "message" string)))
  (export $rejection "rejection" (type $rejection'))
  (type $predictions' (record
    (field "labels" (list u32)) (field "scores" (list f32)) (field "rejected" (list $rejection))))
  (export $predictions "predictions" (type $predictions'))
  (func $open (param "config" string) (param "model" (list u8)) (result (result $signature (error string)))
    (canon lift (core func $main "open") (memory $libc "memory") (realloc (func $libc "cabi_realloc"))))
  (func $classify (param "rows" $matrix) (result (result $predictions (error string)))
    (canon lift (core func $main "classify") (memory $libc "memory") (realloc (func $libc "cabi_realloc")) {lift}))
  {more}
  {export}
)"#
        )
    }
}

/// Little-endian words as a string of the text format.
fn words(words: &[u32]) -> String {
    words.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("\\{byte:02x}")).collect()
}

/// A component in a component in a component …, byte by byte: the text format's reader would give up first.
pub fn nested(depth: usize) -> Vec<u8> {
    const HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";
    let mut length = HEADER.len();
    let mut opened = Vec::new();
    for _ in 0..depth {
        // Section 4: a component of that length.
        let section = [&HEADER, [4].as_slice(), &leb128(length)].concat();
        length += section.len();
        opened.push(section);
    }
    opened.reverse();
    [opened.concat(), HEADER.to_vec()].concat()
}

/// Each component instantiates the one before it twice: a few lines come to two to the power of `doublings` instances.
pub fn billion_laughs(doublings: usize) -> Vec<u8> {
    let mut text = String::from("(component (component $c0 (core module $m) (core instance (instantiate $m)))");
    for at in 0..doublings {
        let twice = "(instance (instantiate $c))".repeat(2);
        text += &format!("(component $c{} (alias outer 1 $c{at} (component $c)) {twice})", at + 1);
    }
    text += &format!("(instance (instantiate $c{doublings})))");
    wat::parse_str(text).unwrap()
}

/// Types each of which holds the one before it twice.
pub fn doubled_types(doublings: usize) -> Vec<u8> {
    let mut text = String::from("(component (type $t0 (tuple u8 u8))");
    for at in 0..doublings {
        text += &format!("(type $t{} (tuple $t{at} $t{at}))", at + 1);
    }
    wat::parse_str(text + ")").unwrap()
}

/// A list of a list of a list ….
pub fn deep_type(depth: usize) -> Vec<u8> {
    let mut text = String::from("(component (type $t0 (list u8))");
    for at in 0..depth {
        text += &format!("(type $t{} (list $t{at}))", at + 1);
    }
    text += &format!(r#"(type $f (func (param "x" $t{depth}))) (import "f" (func (type $f))))"#);
    wat::parse_str(text).unwrap()
}

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}
