// SPDX-License-Identifier: BSD-3-Clause
import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.InetAddress;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Arrays;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/**
 * Java's TLS as a peer of tests/integration/test_peers.py.
 *
 *   java TlsPeer server SUITES KEYSTORE.p12 PASSWORD   prints {"listening": PORT}, echoes until standard input ends
 *   java TlsPeer client CA.pem                         jobs on standard input: PORT VERSION SUITE CONNECTIONS SEND EXPECT
 *
 * Jobs and output are those of tls-peer.js; suites are RFC names. KeyUpdate is Java's own doing: security property
 * jdk.tls.keyLimits.
 */
public class TlsPeer {
    public static void main(String[] args) throws Exception {
        if (args[0].equals("server")) {
            server(args[1].split(":"), args[2], args[3].toCharArray());
        } else {
            client(args[1]);
        }
    }

    private static void server(String[] suites, String keystore, char[] password) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (InputStream in = new FileInputStream(keystore)) {
            store.load(in, password);
        }
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(store, password);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), null, null);
        SSLServerSocket listener =
            (SSLServerSocket) context.getServerSocketFactory().createServerSocket(0, 64, InetAddress.getByName("127.0.0.1"));
        listener.setEnabledCipherSuites(suites);
        Thread end = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (IOException e) {
                // the end as well
            }
            System.exit(0);
        });
        end.setDaemon(true);
        end.start();
        System.out.println("{\"listening\": " + listener.getLocalPort() + "}");
        for (;;) {
            SSLSocket socket = (SSLSocket) listener.accept();
            new Thread(() -> echo(socket)).start();
        }
    }

    private static void echo(SSLSocket socket) {
        byte[] buffer = new byte[40000];
        try (socket) {
            socket.setTcpNoDelay(true);
            InputStream in = socket.getInputStream();
            OutputStream out = socket.getOutputStream();
            for (int n; (n = in.read(buffer)) > 0;) {
                out.write(buffer, 0, n);
            }
        } catch (IOException e) {
            System.err.println(e);
        }
    }

    private static void client(String ca) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream in = new FileInputStream(ca)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        BufferedReader jobs = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = jobs.readLine()) != null;) {
            String[] job = line.split(" ");
            byte[] send = Files.readAllBytes(Paths.get(job[4])), expect = Files.readAllBytes(Paths.get(job[5]));
            for (int i = 0; i < Integer.parseInt(job[3]); i++) {
                String error = connect(context, Integer.parseInt(job[0]), job[1], job[2], send, expect);
                System.out.println("{\"error\": \"" + error.replaceAll("[^ -!#-\\[\\]-~]", "?") + "\"}");
            }
        }
    }

    /** Sessions are resumed by the context's own cache, which goes by host and port. */
    private static String connect(SSLContext context, int port, String version, String suite, byte[] send, byte[] expect) {
        try (SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket("localhost", port)) {
            socket.setSoTimeout(20000);
            socket.setTcpNoDelay(true);
            socket.setEnabledProtocols(new String[] {"TLSv" + version});
            socket.setEnabledCipherSuites(new String[] {suite});
            var parameters = socket.getSSLParameters();
            parameters.setEndpointIdentificationAlgorithm("HTTPS");
            socket.setSSLParameters(parameters);
            socket.startHandshake();
            Thread writer = new Thread(() -> {
                try {
                    for (int at = 0; at < send.length; at += 16384) { // KeyUpdate comes between two calls
                        socket.getOutputStream().write(send, at, Math.min(16384, send.length - at));
                    }
                } catch (IOException e) {
                    // the reader finds out
                }
            });
            writer.start();
            byte[] got = socket.getInputStream().readNBytes(expect.length);
            writer.join();
            socket.shutdownOutput();
            while (socket.getInputStream().read() >= 0) { } // a close with anything unread would reset the connection
            return Arrays.equals(got, expect) ? "" : got.length + " bytes came, not the " + expect.length + " that were expected";
        } catch (Exception e) {
            return String.valueOf(e);
        }
    }
}
