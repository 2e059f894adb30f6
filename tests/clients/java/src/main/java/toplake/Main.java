package toplake;

import java.util.List;

/** Runs the checks that are named, or all. */
public final class Main {
    public static void main(String[] names) {
        var checks = new Checks(List.of(names));
        new Connecting(checks).run();
        new Metadata(checks).run();
        new Columns(checks).run();
        new Types(checks).run();
        new Results(checks).run();
        new Errors(checks).run();
        new Writing(checks).run();
        new Transactions(checks).run();
        new Pool(checks).run();
        System.exit(checks.failed() ? 1 : 0);
    }
}
