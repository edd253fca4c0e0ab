import io.spiffe.bundle.jwtbundle.JwtBundle;
import io.spiffe.bundle.jwtbundle.JwtBundleSet;
import io.spiffe.svid.jwtsvid.JwtSvid;
import io.spiffe.svid.x509svid.X509Svid;
import io.spiffe.workloadapi.DefaultWorkloadApiClient;
import io.spiffe.workloadapi.DefaultWorkloadApiClient.ClientOptions;
import io.spiffe.workloadapi.Watcher;
import io.spiffe.workloadapi.WorkloadApiClient;
import io.spiffe.workloadapi.X509Context;
import java.io.IOException;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;

/**
 * An ordinary workload on the published java-spiffe: it follows its X.509 context, fetches tokens and
 * judges them, and prints one JSON line for each thing that the library tells it.
 */
public final class Watch implements Watcher<X509Context> {
    private static final String AUDIENCE = "db";

    public static void main(String[] arguments) throws Exception {
        ClientOptions options =
            ClientOptions.builder().spiffeSocketPath(System.getenv("SPIFFE_ENDPOINT_SOCKET")).build();
        WorkloadApiClient client = DefaultWorkloadApiClient.newClient(options);
        client.watchX509Context(new Watch());
        Thread tokens = new Thread(() -> tokens(client));
        tokens.setDaemon(true);
        tokens.start();
        // It ends with the test that started it: that one holds the other end of standard input.
        while (System.in.read() >= 0) {
        }
        Runtime.getRuntime().halt(0);
    }

    @Override
    public void onUpdate(X509Context context) {
        List<X509Svid> svids = context.getX509Svids();
        say("svids",
            list("ids", svids.stream().map(svid -> svid.getSpiffeId().toString())),
            list("serials", svids.stream().map(svid -> svid.getLeaf().getSerialNumber().toString(16))),
            list("bundles", context.getX509BundleSet().getBundles().keySet().stream().map(td -> td.getName())));
    }

    @Override
    public void onError(Throwable error) {
        say("error", text("message", String.valueOf(error.getMessage())));
    }

    private static void tokens(WorkloadApiClient client) {
        String last = "";
        while (true) {
            try {
                JwtSvid svid = client.fetchJwtSvid(AUDIENCE);
                if (!svid.getToken().equals(last)) {
                    last = svid.getToken();
                    // By the keys that the agent hands out, and by the agent itself.
                    JwtBundleSet bundles = client.fetchJwtBundles();
                    JwtBundle bundle = bundles.getBundleForTrustDomain(svid.getSpiffeId().getTrustDomain());
                    JwtSvid local = JwtSvid.parseAndValidate(last, bundle, Set.of(AUDIENCE));
                    JwtSvid judged = client.validateJwtSvid(last, AUDIENCE);
                    boolean same = local.getSpiffeId().equals(svid.getSpiffeId())
                        && judged.getSpiffeId().equals(svid.getSpiffeId());
                    if (!same) {
                        throw new IOException("they name different workloads");
                    }
                    say("token", text("id", svid.getSpiffeId().toString()), text("token", last),
                        "\"keys\":" + bundle.getJwtAuthorities().size());
                }
                Thread.sleep(100);
            } catch (Exception error) {
                say("no token", text("message", String.valueOf(error.getMessage())));
                try {
                    Thread.sleep(500);
                } catch (InterruptedException ended) {
                    return;
                }
            }
        }
    }

    private static synchronized void say(String event, String... more) {
        System.out.println("{" + text("event", event) + "," + String.join(",", more) + "}");
        System.out.flush();
    }

    private static String text(String name, String value) {
        StringBuilder out = new StringBuilder();
        value.chars().forEach(c -> out.append(c < 32 || c == '"' || c == '\\' ? String.format("\\u%04x", c) : (char) c + ""));
        return "\"" + name + "\":\"" + out + "\"";
    }

    private static String list(String name, java.util.stream.Stream<String> values) {
        return "\"" + name + "\":" + values.map(value -> "\"" + value + "\"").collect(Collectors.joining(",", "[", "]"));
    }
}
