import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Writes records as any Java service would, with the default partitioner, and prints one line
 * `key partition` for each.
 *
 * Usage: KeyedProducer BOOTSTRAP TOPIC COUNT VALUE
 */
public final class KeyedProducer {
    public static void main(String[] arguments) throws Exception {
        Map<String, Object> config = Map.of("bootstrap.servers", arguments[0]);
        int count = Integer.parseInt(arguments[2]);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            for (int i = 0; i < count; i++) {
                // Longer than a multiple of four, and beyond ASCII, since the hash has a case for each remainder.
                sent.add(producer.send(new ProducerRecord<>(arguments[1], "käy-" + "x".repeat(i % 5) + i, arguments[3])));
            }
        }
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < count; i++) {
            lines.append("käy-").append("x".repeat(i % 5)).append(i).append(' ').append(sent.get(i).get().partition()).append('\n');
        }
        System.out.write(lines.toString().getBytes(StandardCharsets.UTF_8));
        System.out.flush();
    }
}
