import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import org.apache.commons.math3.stat.regression.SimpleRegression;

/** Fills a database in memory with orders, sums them by customer, and fits a line to the sums. */
public class Orders {
    public static void main(String[] arguments) throws Exception {
        System.out.println("started");
        try (Connection connection = DriverManager.getConnection("jdbc:h2:mem:orders")) {
            connection.createStatement().execute("create table orders (customer int, amount int)");
            try (PreparedStatement insert = connection.prepareStatement("insert into orders values (?, ?)")) {
                for (int number = 0; number < 20_000; number++) {
                    insert.setInt(1, number % 100);
                    insert.setInt(2, 3 * (number % 100));
                    insert.addBatch();
                }
                insert.executeBatch();
            }
            SimpleRegression line = new SimpleRegression();
            String query = "select customer, sum(amount) from orders group by customer order by customer";
            try (ResultSet sums = connection.createStatement().executeQuery(query)) {
                while (sums.next()) {
                    line.addData(sums.getInt(1), sums.getInt(2));
                }
            }
            System.out.printf("result %.1f%n", line.getSlope());
        }
    }
}
