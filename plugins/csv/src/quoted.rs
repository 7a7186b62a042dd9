//! Lines with quotes. csv-core reads them into a copy, which a line without quotes does not need.

use sandpiper_sdk::{Reject, reject};

/// Reads a line with quotes. Owns the buffers, which are reused from line to line.
pub struct Quoted {
    reader: csv_core::Reader,
    text: Vec<u8>,
    /// Where each cell ends in `text`.
    ends: Vec<usize>,
    /// How many cells the last line had.
    found: usize,
}

impl Quoted {
    pub fn new(delimiter: u8, columns: usize) -> Self {
        Self {
            reader: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            text: Vec::new(),
            // One more than there are columns, so that a surplus is seen; how large it is does not matter.
            ends: vec![0; columns + 1],
            found: 0,
        }
    }

    /// Answers the number of cells; a line of more than one surplus cell counts as one surplus.
    #[inline]
    pub fn read(&mut self, line: &[u8]) -> Result<usize, Reject> {
        self.reader.reset();
        // Unquoting never lengthens a line, so only surplus cells can fill a buffer.
        self.text.resize(line.len(), 0);
        let (result, read, _, mut found) = self.reader.read_record(line, &mut self.text, &mut self.ends);
        if read < line.len() && result == csv_core::ReadRecordResult::Record {
            return Err(reject("column-count", "the record holds more than one line"));
        }
        if result == csv_core::ReadRecordResult::InputEmpty {
            // A line break closes the last cell, unless a quote is open: then it is one more byte of the cell.
            let ends = self.ends.get_mut(found..).unwrap_or_default();
            let (end, _, _, last) = self.reader.read_record(b"\n", &mut [0], ends);
            if matches!(end, csv_core::ReadRecordResult::InputEmpty | csv_core::ReadRecordResult::OutputFull) {
                return Err(reject(
                    "unclosed-quote",
                    "the line ends within a quoted cell: its closing quote is missing",
                ));
            }
            found += last;
        }
        self.found = found;
        Ok(found)
    }

    #[inline]
    pub fn cells(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().take(self.found).map(move |end| {
            let cell = self.text.get(start..*end).unwrap_or_default();
            start = *end;
            cell
        })
    }
}
