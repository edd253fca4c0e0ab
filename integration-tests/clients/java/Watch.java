import com.nimbusds.jose.JWSObject;
import io.spiffe.bundle.jwtbundle.JwtBundle;
import io.spiffe.bundle.jwtbundle.JwtBundleSet;
import io.spiffe.bundle.x509bundle.X509Bundle;
import io.spiffe.bundle.x509bundle.X509BundleSet;
import io.spiffe.svid.jwtsvid.JwtSvid;
import io.spiffe.svid.x509svid.X509Svid;
import io.spiffe.svid.x509svid.X509SvidValidator;
import io.spiffe.workloadapi.DefaultWorkloadApiClient;
import io.spiffe.workloadapi.DefaultWorkloadApiClient.ClientOptions;
import io.spiffe.workloadapi.Watcher;
import io.spiffe.workloadapi.WorkloadApiClient;
import io.spiffe.workloadapi.X509Context;
import java.io.IOException;
import java.security.GeneralSecurityException;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;

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
        X509BundleSet bundles = context.getX509BundleSet();
        List<String> signers = new ArrayList<>();
        Set<String> authorities = new TreeSet<>();
        try {
            for (X509Svid svid : svids) {
                X509Bundle bundle = bundles.getBundleForTrustDomain(svid.getSpiffeId().getTrustDomain());
                X509SvidValidator.verifyChain(svid.getChain(), bundle);
                signers.add(signer(svid, bundle));
                bundle.getX509Authorities().forEach(authority -> authorities.add(key(authority)));
            }
        } catch (Exception error) {
            say("bad svids", text("message", String.valueOf(error)));
            return;
        }
        say("svids",
            list("ids", svids.stream().map(svid -> svid.getSpiffeId().toString())),
            list("serials", svids.stream().map(svid -> svid.getLeaf().getSerialNumber().toString(16))),
            list("bundles", bundles.getBundles().keySet().stream().map(td -> td.getName())),
            list("signers", signers.stream()),
            list("authorities", authorities.stream()));
    }

    /** Which of the authorities signed the last certificate of a chain that the library has verified. */
    private static String signer(X509Svid svid, X509Bundle bundle) throws GeneralSecurityException {
        X509Certificate last = svid.getChain().get(svid.getChain().size() - 1);
        for (X509Certificate authority : bundle.getX509Authorities()) {
            try {
                last.verify(authority.getPublicKey());
                return key(authority);
            } catch (GeneralSecurityException another) {
                continue;
            }
        }
        throw new GeneralSecurityException("none of the authorities signed it");
    }

    /** How the server names an authority: by the identifier of its key, which two headers of two bytes precede. */
    private static String key(X509Certificate authority) {
        return HexFormat.of().formatHex(authority.getExtensionValue("2.5.29.14"), 4, 24);
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
                        list("signers", Stream.of(JWSObject.parse(last).getHeader().getKeyID())),
                        list("authorities", bundle.getJwtAuthorities().keySet().stream()));
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

    private static String list(String name, Stream<String> values) {
        return "\"" + name + "\":" + values.map(value -> "\"" + value + "\"").collect(Collectors.joining(",", "[", "]"));
    }
}
