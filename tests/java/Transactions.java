import java.io.File;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.FileRecords;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.coordinator.group.generated.OffsetCommitKey;
import org.apache.kafka.coordinator.group.generated.OffsetCommitValue;

/**
 * Transactions as they lie in a broker's log files, which no consumer shows: for each partition, what one
 * producer wrote between two of its control markers.
 *
 * Usage: Transactions LOG-DIRECTORY GROUP TOPIC...
 *
 * Prints tab-separated lines. `records` is a partition's share of a transaction, `commit` one offset that the group
 * committed in one:
 *
 *     records  FOLDER PRODUCER EPOCH OUTCOME SERIAL FIRST-OFFSET LAST-OFFSET REVISION,…
 *     commit   FOLDER PRODUCER EPOCH OUTCOME SERIAL TOPIC PARTITION OFFSET METADATA
 *
 * OUTCOME is commit, abort or open; SERIAL numbers the transactions of a folder.
 */
public final class Transactions {
    private static final Pattern REVISION = Pattern.compile("\"revision\":(\\d+),\"role\"");
    private static final String HEADER = "__sandpiper.errors.revision";

    /** What a transaction has put into one partition so far. */
    private static final class Share {
        long first = -1;
        long last = -1;
        final TreeSet<String> revisions = new TreeSet<>();
        final List<String> commits = new ArrayList<>();
    }

    private final String group;
    private final StringBuilder lines = new StringBuilder();
    private int serial = 0;

    private Transactions(String group) {
        this.group = group;
    }

    public static void main(String[] arguments) throws Exception {
        Transactions transactions = new Transactions(arguments[1]);
        List<String> topics = new ArrayList<>(List.of(arguments).subList(2, arguments.length));
        topics.add("__consumer_offsets");
        try (var folders = Files.list(Path.of(arguments[0]))) {
            for (Path folder : folders.sorted().toList()) {
                String name = folder.getFileName().toString();
                int dash = name.lastIndexOf('-');
                if (dash > 0 && topics.contains(name.substring(0, dash))) {
                    transactions.readFolder(folder);
                }
            }
        }
        System.out.write(transactions.lines.toString().getBytes(StandardCharsets.UTF_8));
        System.out.flush();
    }

    private void readFolder(Path folder) throws Exception {
        String name = folder.getFileName().toString();
        boolean offsets = name.startsWith("__consumer_offsets-");
        Map<String, Share> open = new HashMap<>();
        List<Path> segments;
        try (var files = Files.list(folder)) {
            segments = files.filter(file -> file.toString().endsWith(".log")).sorted().toList();
        }
        for (Path segment : segments) {
            try (FileRecords records = FileRecords.open(new File(segment.toString()), false)) {
                for (RecordBatch batch : records.batches()) {
                    if (!batch.isTransactional()) {
                        continue;
                    }
                    String producer = batch.producerId() + "\t" + batch.producerEpoch();
                    if (batch.isControlBatch()) {
                        // A marker after a timeout carries a newer epoch than the records that it closes.
                        String outcome = ControlRecordType.parse(batch.iterator().next().key()) == ControlRecordType.COMMIT ? "commit" : "abort";
                        String prefix = batch.producerId() + "\t";
                        for (String key : open.keySet().stream().filter(key -> key.startsWith(prefix)).toList()) {
                            print(name, key, outcome, open.remove(key));
                        }
                        continue;
                    }
                    Share share = open.computeIfAbsent(producer, key -> new Share());
                    share.first = share.first < 0 ? batch.baseOffset() : share.first;
                    share.last = batch.lastOffset();
                    for (Record record : batch) {
                        if (offsets) {
                            readCommit(record, share);
                        } else {
                            readRevision(record, share);
                        }
                    }
                }
            }
        }
        open.forEach((producer, share) -> print(name, producer, "open", share));
    }

    private static void readRevision(Record record, Share share) {
        for (Header header : record.headers()) {
            if (header.key().equals(HEADER)) {
                share.revisions.add(new String(header.value(), StandardCharsets.UTF_8));
                return;
            }
        }
        if (record.hasValue()) {
            Matcher matcher = REVISION.matcher(StandardCharsets.UTF_8.decode(record.value().duplicate()));
            if (matcher.find()) {
                share.revisions.add(matcher.group(1));
            }
        }
    }

    private void readCommit(Record record, Share share) {
        ByteBuffer key = record.key().duplicate();
        short kind = key.getShort();
        if (kind > 1 || !record.hasValue()) {
            return; // Not an offset commit, or its removal.
        }
        OffsetCommitKey place = new OffsetCommitKey(new ByteBufferAccessor(key), (short) 0);
        if (!place.group().equals(group)) {
            return;
        }
        ByteBuffer value = record.value().duplicate();
        OffsetCommitValue commit = new OffsetCommitValue(new ByteBufferAccessor(value), value.getShort());
        share.commits.add(place.topic() + "\t" + place.partition() + "\t" + commit.offset() + "\t" + commit.metadata());
    }

    private void print(String folder, String producer, String outcome, Share share) {
        String head = folder + "\t" + producer + "\t" + outcome + "\t" + serial++ + "\t";
        if (folder.startsWith("__consumer_offsets-")) {
            for (String commit : share.commits) {
                lines.append("commit\t").append(head).append(commit).append('\n');
            }
        } else {
            lines.append("records\t").append(head).append(share.first).append('\t').append(share.last).append('\t');
            lines.append(String.join(",", share.revisions)).append('\n');
        }
    }
}
